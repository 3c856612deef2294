/* store_tamper: changes records of a stopped store behind its back, for tests of whole nodes.
 *
 *     store_tamper DIR remove|set-back|damage|damage-key|damage-header N SEED
 *
 * DIR is the one with data.mdb in it. What a failure says is cmocka's.
 */
#include "tests/model/fault_tamper.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct test_random random = {.s = argc == 5 ? strtoull(argv[4], NULL, 10) : 0};
    size_t n = argc == 5 ? strtoull(argv[3], NULL, 10) : 0;
    enum fault_tampering what = TAMPER_REMOVE;
    struct fault_tampered *done;

    if (n == 0) {
        fprintf(stderr, "usage: store_tamper DIR "
                        "remove|set-back|damage|damage-key|damage-header N SEED\n");
        return 2;
    }
    if (strcmp(argv[2], "set-back") == 0)
        what = TAMPER_SET_BACK;
    else if (strcmp(argv[2], "damage") == 0)
        what = TAMPER_RECORD;
    else if (strcmp(argv[2], "damage-key") == 0)
        what = TAMPER_KEY;
    else if (strcmp(argv[2], "damage-header") == 0)
        what = TAMPER_KEY_LENGTH;
    else
        assert_string_equal(argv[2], "remove");
    done = calloc(n, sizeof(*done));
    assert_non_null(done);
    fault_tamper(argv[1], what, n, &random, done);
    free(done);
    return 0;
}
