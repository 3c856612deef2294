/* config_check: what must hold between options. Looks up the addresses to listen on, since whether
 * they are loopback decides whether --insecure is needed. */
#include "proto/err.h"
#include "server/edge/config.h"
#include <stdio.h>

static int check_listen(const struct address *a, struct sockaddr_storage *ret, socklen_t *ret_len,
                        const char *option, bool insecure, char why[CONFIG_WHY_BYTES])
{
    char text[ADDRESS_TEXT_BYTES];

    address_text(a, text);
    if (address_resolve(a, ret, ret_len) < 0) {
        snprintf(why, CONFIG_WHY_BYTES, "--%s %.200s: there is no such host", option, text);
        return -ERR_CONFIG;
    }
    if (!address_is_loopback(ret) && !insecure) {
        snprintf(why, CONFIG_WHY_BYTES,
                 "--%s %.200s can be reached from other machines, and nothing is encrypted or "
                 "checked yet: anybody there could read and change all data. Use a loopback "
                 "address, or add --insecure on a network that you trust",
                 option, text);
        return -ERR_CONFIG;
    }
    return 0;
}

/* Others are told an address that they can dial. */
static int check_advertise(const struct sockaddr_storage *ss, const struct address *advertise,
                           const char *listen, const char *option, char why[CONFIG_WHY_BYTES])
{
    if (address_is_wildcard(ss) && !advertise->host[0]) {
        snprintf(why, CONFIG_WHY_BYTES,
                 "--%s takes connections on every address, but none of them can be told to "
                 "others: add --%s HOST:PORT",
                 listen, option);
        return -ERR_CONFIG;
    }
    if (advertise->host[0] && advertise->port == 0) {
        snprintf(why, CONFIG_WHY_BYTES, "--%s: port 0 cannot be dialled", option);
        return -ERR_CONFIG;
    }
    return 0;
}

static int check_cluster(const struct config *c, char why[CONFIG_WHY_BYTES])
{
    const struct address *own = c->peer_advertise.host[0] ? &c->peer_advertise : &c->peer_listen;
    char text[ADDRESS_TEXT_BYTES];

    if (c->cluster.n && c->join.n) {
        snprintf(why, CONFIG_WHY_BYTES,
                 "--cluster forms a new cluster and --join joins one: give one of them");
        return -ERR_CONFIG;
    }
    for (uint32_t i = 0; i < c->cluster.n; i++)
        if (c->cluster.list[i].port == own->port && !strcmp(c->cluster.list[i].host, own->host))
            return 0;
    if (c->cluster.n == 0)
        return 0;
    address_text(own, text);
    snprintf(why, CONFIG_WHY_BYTES,
             "--cluster must list this node's own peer address, %.200s, written the same way",
             text);
    return -ERR_CONFIG;
}

int config_check(struct config *c, char why[CONFIG_WHY_BYTES])
{
    int rc = 0;

    if (!c->data[0]) {
        snprintf(why, CONFIG_WHY_BYTES, "--data DIR is needed: where this node keeps its data");
        return -ERR_CONFIG;
    }
    rc = check_listen(&c->listen, &c->listen_addr, &c->listen_len, "listen", c->insecure, why);
    if (rc == 0)
        rc = check_listen(&c->peer_listen, &c->peer_listen_addr, &c->peer_listen_len, "peer-listen",
                          c->insecure, why);
    if (rc == 0 && c->http_listen.host[0])
        rc = check_listen(&c->http_listen, &c->http_listen_addr, &c->http_listen_len, "http-listen",
                          c->insecure, why);
    if (rc == 0)
        rc = check_advertise(&c->listen_addr, &c->advertise, "listen", "advertise", why);
    if (rc == 0)
        rc = check_advertise(&c->peer_listen_addr, &c->peer_advertise, "peer-listen",
                             "peer-advertise", why);
    if (rc == 0)
        rc = check_cluster(c, why);
    return rc;
}

bool config_is_local(const struct config *c)
{
    return address_is_loopback(&c->listen_addr) && address_is_loopback(&c->peer_listen_addr) &&
           (!c->http_listen.host[0] || address_is_loopback(&c->http_listen_addr));
}
