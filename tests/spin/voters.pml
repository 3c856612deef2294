/* voters: the register that holds its own voters (server/core/register.h): CASPaxos, in which each
 * ring names who votes about the next.
 *
 * Attempts have ballots 1 .. NB. A voter takes nothing below what it has promised or accepted, so it
 * sees ballots in their order; what an attempt reads and sends depends on lower ballots alone.
 * However their messages cross, lost, late and doubled, the same happens if each attempt does all
 * that it ever does before the next one begins: it is promised by some, and accepted by some, in any
 * combination. So that is all that the model tries, which makes it small enough to search to its
 * end. What an attempt knows to be decided it may know or not (gossip is slow). What is decided
 * under a higher ballot it cannot use: a majority has promised that one.
 *
 * A ring is named by the ballot under which it was computed; 0 is the first one. It is written again
 * under higher ballots when others finish it. Voters are bits of a set.
 *
 *   cfg[o], par[o], anc[o]    ring o: its voters, the ring it was computed from, all before it
 *   ab[l]                     voter l: the ballot under which it has accepted last
 *   val[b]                    the ring that attempt b has offered
 *   dec                       rings that are decided
 *   b, ask, who, best         this attempt; whom it asks; who has promised; the highest ballot told
 *
 * It may ask the voters of any ring that was ever proposed: of the sets START, ONE, TWO, of which a
 * ring may follow another if they are one voter apart.
 *
 * Properties: of any two decided rings one follows the other; what an attempt reads that asks those
 * whom it may ask is not older than what is decided.
 *
 * Mistakes:
 *   BUG_SWAP        two voters change at once, a majority of the old ones decides   (V3)
 *   BUG_SWAP_JOINT  two voters change at once, majorities of both decide            (V3)
 *   BUG_STALE       a ring is written whoever was asked                             (V2)
 *   BUG_CACHE       a ring is computed from one that is known, whatever is read     (V3)
 *   BUG_OLD_ONLY    a majority of the old voters decides (V5; no mistake: majorities of neighbouring
 *                   sets meet, and with the other rules that is enough)
 *   BUG_NEW_ONLY    a majority of the new ones decides                              (V5)
 *   BUG_REWRITE     who finishes a ring needs a majority of its own voters only     (V5)
 *   BUG_UNDECIDED   a ring is computed from what was read, decided or not           (V7)
 *   BUG_LOWER       a voter forgets a promise, or accepts below it: once an old message is taken
 *   BUG_FIRST       what was accepted first is read, not what was accepted last
 */
#ifndef NB
#define NB 5
#endif
#ifndef NA
#define NA 4
#endif
#ifndef START
#define START 7
#endif
#ifndef ONE
#define ONE 15
#endif
#ifndef TWO
#define TWO 11
#endif

byte cfg[NB + 1]; byte par[NB + 1]; byte anc[NB + 1]; byte val[NB + 1];
byte ab[NA];
byte dec; byte seen; /* seen: which of ONE and TWO were ever proposed */
byte b; byte ask; byte who; byte best; byte i;
#ifdef BUG_LOWER
byte acc[NB + 1]; bool used;
#endif

#define BIT(x) (1 << (x))
#define PC(m) (((m)&1) + (((m)>>1)&1) + (((m)>>2)&1) + (((m)>>3)&1) + (((m)>>4)&1) + (((m)>>5)&1))
#define MAJ(w, set) (2 * PC((w) & (set)) > PC(set))
#define BEFORE(o) cfg[par[o]]
#define READ val[best]
#define OLDER(x, y) ((x) != (y) && (anc[y] & BIT(x)))

#if defined(BUG_SWAP) || defined(BUG_SWAP_JOINT)
#define NEAR(x, y) 1
#else
#define NEAR(x, y) (PC((x) ^ (y)) <= 1)
#endif
#ifdef BUG_STALE
#define MAY_FINISH 1
#define ASKED_ITS_OWN 1
#else
#define MAY_FINISH (ask == cfg[READ] || ask == BEFORE(READ))
#define ASKED_ITS_OWN (ask == cfg[READ])
#endif
#if defined(BUG_CACHE)
#define BASE 0
#define MAY_FOLLOW (ask == START)
#elif defined(BUG_UNDECIDED)
#define BASE READ
#define MAY_FOLLOW ASKED_ITS_OWN
#else
#define BASE READ
#define MAY_FOLLOW ((dec & BIT(READ)) && ASKED_ITS_OWN)
#endif
#if defined(BUG_SWAP) || defined(BUG_OLD_ONLY)
#define ENOUGH(w, x) MAJ(w, BEFORE(val[x]))
#elif defined(BUG_NEW_ONLY)
#define ENOUGH(w, x) MAJ(w, cfg[val[x]])
#elif defined(BUG_REWRITE)
#define ENOUGH(w, x) (MAJ(w, cfg[val[x]]) && (val[x] != (x) || MAJ(w, BEFORE(val[x]))))
#else
#define ENOUGH(w, x) (MAJ(w, cfg[val[x]]) && MAJ(w, BEFORE(val[x])))
#endif
#ifdef BUG_FIRST
#define BETTER(l) (ab[l] != 0 && (best == 0 || ab[l] < best))
#else
#define BETTER(l) (ab[l] > best)
#endif

inline chain(o) {
  i = 0;
  do
  :: i <= NB ->
    assert(!(dec & BIT(i)) || (anc[o] & BIT(i)) || (anc[i] & BIT(o)));
    i++
  :: else -> i = 0; break
  od
}

inline decide(w, x) {
  if
  :: ENOUGH(w, x) && !(dec & BIT(val[x])) ->
    dec = dec | BIT(val[x]);
    printf("DECIDED ring %d, voters %d\n", val[x], cfg[val[x]]);
    chain(val[x])
  :: else -> skip
  fi
}

/* What has been read is not older than anything decided. */
inline not_older() {
  i = 0;
  do
  :: i <= NB -> assert(!(dec & BIT(i)) || !OLDER(READ, i)); i++
  :: else -> i = 0; break
  od
}

inline follow(c) {
  d_step {
    printf("%d asked %d, promised by %d, reads %d: a ring follows %d, voters %d\n", b, ask, who,
           READ, BASE, c);
    not_older();
    par[b] = BASE; cfg[b] = c; anc[b] = anc[par[b]] | BIT(b); val[b] = b;
    if :: (c) == ONE -> seen = seen | 1 :: (c) == TWO -> seen = seen | 2 :: else -> skip fi
  }
}

#define CLEAR ask = 0; who = 0; best = 0

active proctype sys() {
  byte l;
  d_step { cfg[0] = START; anc[0] = 1; dec = 1; b = 1 }
next:
  if
  :: b > NB -> goto end
  :: else -> skip
  fi;
#ifdef BUG_LOWER
  /* An old message, at a voter that has promised since. */
  do
  :: d_step { !used && b > 2 -> used = 1; who = 1 };
    do
    :: who < b - 1 -> who++
    :: break
    od;
    if
    :: who < b && val[who] != 0 ->
      do
      :: l < NA - 1 -> l++
      :: break
      od;
      skip;
      d_step {
        printf("%d is accepted late at %d\n", who, l);
        ab[l] = who; acc[who] = acc[who] | BIT(l); decide(acc[who], who); l = 0; who = 0
      }
    :: d_step { val[who] == 0 -> who = 0 }
    fi
  :: break
  od;
#endif
  if
  :: ask = START
  :: d_step { (seen & 1) -> ask = ONE }
  :: d_step { (seen & 2) -> ask = TWO }
  fi;
  /* Promises: exactly a majority, for nothing more is waited for. */
  do
  :: l < NA && !MAJ(who, ask) && (ask & BIT(l)) -> d_step {
      who = who | BIT(l);
      if :: BETTER(l) -> best = ab[l] :: else -> skip fi;
      l++ }
  :: l < NA && !MAJ(who, ask) -> l++
  :: l == NA || MAJ(who, ask) -> break
  od;
  l = 0;
  if
  :: !MAJ(who, ask) -> goto lost
  :: else -> skip
  fi;
  if
  :: MAY_FOLLOW && NEAR(cfg[BASE], START) -> follow(START)
  :: MAY_FOLLOW && NEAR(cfg[BASE], ONE) -> follow(ONE)
  :: MAY_FOLLOW && NEAR(cfg[BASE], TWO) -> follow(TWO)
  :: MAY_FINISH && READ != 0 -> d_step {
      printf("%d asked %d, promised by %d: ring %d again\n", b, ask, who, READ);
#ifndef BUG_STALE
      not_older();
#endif
      val[b] = READ }
  :: else -> goto lost
  fi;
  d_step { CLEAR };
  /* Who accepts. */
  do
  :: l < NA && ((cfg[val[b]] | BEFORE(val[b])) & BIT(l)) -> d_step {
      ab[l] = b; who = who | BIT(l); l++ }
  :: l < NA -> l++
  :: l == NA -> break
  od;
  l = 0;
  d_step {
    printf("%d is accepted by %d\n", b, who);
    decide(who, b);
#ifdef BUG_LOWER
    acc[b] = who;
#endif
    CLEAR; b++
  };
  goto next;
lost:
  skip;
  d_step { CLEAR; l = 0; b++ };
  goto next;
end:
  skip
}
