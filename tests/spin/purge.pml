/* purge: purge floors (server/core/floor.h, purge.h), one last-writer-wins key on 3 slots.
 *
 * Versions: 1 = put A (the value that must not come back), 2 = delete (tombstone), 3 = re-creating
 * put; each may be pushed to any slot at any time, again and again: delayed puts, read repairs of
 * paused coordinators, re-stamped puts.
 *
 *   rec   record held (0 = absent)        fl   floor opened, durable      cl   floor closed
 *
 * A push of a version <= fl is refused unless the slot holds that version or a newer one. Pull: a
 * slot asks a peer and merges the answer; one answer at a time is slow: cut at once, it arrives at
 * any later time or never; an absent record <= cl is taken only if the request was made after that
 * closing. Rounds for floors 2 and 3 run side by side (two drivers); CLOSE reaches each slot at its
 * own time or never; purging is lazy. A slot that is down is a slot that takes no step. A restart
 * keeps rec, fl, cl.
 *
 * A pair's agreement is void when a record <= the floor enters one of the two. After agreement each
 * slot freezes: it drops its own requests and takes in nothing <= the floor until it has closed; a
 * round closes when all are frozen and nothing was void. An absent answer carries cl and merges as
 * a deletion of version cl. A get takes two answers; if they differ it waits until two slots hold
 * the merged record; a slot that has closed a floor >= a tombstone counts as holding it.
 *
 * Properties: no slot stores version 1 once a tombstone has been purged anywhere (hence replicas
 * converge); a get never returns 1 after a delete was acked or returned; an acked re-creation is
 * returned; gets are monotonic.
 *
 * Mistakes:
 *   BUG_MAJORITY       a round of two slots
 *   BUG_DOWN           a round goes on without slot 2 while it is down
 *   BUG_NOSYNC         a floor acked, not synced, lost at a restart
 *   BUG_PUSH           repair or a re-stamped put enters as state, unchecked
 *   BUG_PULL_STALE     any own request counts
 *   BUG_PULL_OPEN      a request made after OPEN is enough
 *   BUG_STAR           slots 0-1 and 1-2 agree, 0-2 are not compared (no mistake: see run.py)
 *   BUG_COMPARE_FIRST  compared before all have opened
 *   BUG_HOLD_OPEN      a get counts a refusal by an opened floor as held
 *   BUG_NO_VOID, BUG_NO_FREEZE, BUG_NO_READ_FLOOR      the rules above, left out
 *   BUG_MOVE_NOFLOOR   slot 2 moves, its floor is not copied
 *   with REPL (slot 2 is replaced once; the learner takes the floors of 0 and 1, copies both):
 *   BUG_REPL_NOFLOOR, BUG_JOIN_EARLY (the JOINING slot takes pushes before it has a floor),
 *   BUG_ROUND_ACROSS (a round keeps the replies of the replaced incarnation), BUG_PULL_OLD_V (a
 *   slot that adopted v+1 still takes the answer to its request of v)
 *
 * Options: THAW (a frozen slot thaws by itself, at any time, or by a restart, and tells nobody: what
 * enters it after that voids nothing), CLOSE_DROPS (closing drops own requests, as the code does),
 * SNAP (comparison in two steps, the list cut earlier; BUG_SNAP_LATE: a list in flight is not
 * voided), VOLCLOSE (cl forgotten at a restart), PURGE_JOINING (slots purge while one is JOINING),
 * READS (number of gets, one after the other), ONEROUND, MOVE (slot 2 moves once). */
#ifndef READS
#define READS 2
#endif
byte rec[3]; byte fl[3]; byte cl[3]; byte pl; byte plc; byte pld;
byte got[4]; byte acked; bool gone;
byte op[4]; byte ag[4]; byte fz[4]; byte dec;
#ifdef THAW
byte th[4];
#endif
byte rph; byte rn; byte rst; byte rgot; byte rmax; byte rfl; bool rdis;
bool dn; bool moved; bool joining; bool joined; byte jm; byte cpd; byte lv;
#ifdef SNAP
byte snv; byte sna; byte sng;
#endif
#define TOMB(v) ((v)==2)
#define PC(m) (((m)&1) + (((m)>>1)&1) + (((m)>>2)&1))
#define VIEW(l,g) ((rec[l] > (g) || (TOMB(rec[l]) && rec[l] <= cl[l])) -> 0 : rec[l])
#define UP(l) (!(dn && (l)==2))
#define VOTER(l) (!(joining && (l)==2))
#ifdef BUG_HOLD_OPEN
#define HOLD(l,v) (rec[l] >= (v) || (TOMB(v) && (v) <= fl[l]))
#else
#define HOLD(l,v) (rec[l] >= (v) || (TOMB(v) && (v) <= cl[l]))
#endif
#ifdef THAW
#define UNFZ(g) if :: !(dec & (1<<(g))) -> fz[g] = 0; th[g] = 0 :: else -> skip fi
#define TH(g,l) (th[g] & (1<<(l)))
#else
#define UNFZ(g) if :: !(dec & (1<<(g))) -> fz[g] = 0 :: else -> skip fi
#define TH(g,l) 0
#endif
#ifdef BUG_NO_FREEZE
#define THAWED(l, v) 1
#define FREEZE(g,l)
#else
#define THAWED(l, v) (!((fz[2] & (1<<(l))) && !TH(2,l) && (v) <= 2 && cl[l] < 2) && !((fz[3] & (1<<(l))) && !TH(3,l) && (v) <= 3 && cl[l] < 3))
#define FREEZE(g,l) :: d_step { !(dec & BG(g)) && !joining && ENOUGH(g) && !(fz[g] & (1<<(l))) -> fz[g] = fz[g] | (1<<(l)); if :: pld==(l) -> NOPULL :: else -> skip fi; printf("FREEZE %d at slot %d\n", g, l) }
#endif
#define PAIRS(l) ((l)==0 -> 3 : ((l)==1 -> 5 : 6))
#ifdef BUG_NO_VOID
#define VOID(l, v)
#else
#ifdef THAW
#define VOID(l, v) if :: (v) <= 2 && !TH(2,l) -> ag[2] = ag[2] & (7 - PAIRS(l)); UNFZ(2) :: else -> skip fi; if :: !TH(3,l) -> ag[3] = ag[3] & (7 - PAIRS(l)); UNFZ(3) :: else -> skip fi;
#else
#define VOID(l, v) if :: (v) <= 2 -> ag[2] = ag[2] & (7 - PAIRS(l)); UNFZ(2) :: else -> skip fi; ag[3] = ag[3] & (7 - PAIRS(l)); UNFZ(3);
#endif
#endif
#if defined(SNAP) && !defined(BUG_NO_VOID) && !defined(BUG_SNAP_LATE)
#define VOIDS(l, v) if :: sna!=0 && (sna-1)/3==(l) && (v) <= sng -> sna = 0; sng = 0; snv = 0 :: else -> skip fi;
#else
#define VOIDS(l, v)
#endif
inline set(l, v) { rec[l] = v; VOID(l, v) VOIDS(l, v) assert(!(gone && (v)==1)) }
#ifdef BUG_PUSH
#define ENTERS(l,v) 1
#elif defined(BUG_JOIN_EARLY)
#define ENTERS(l,v) ((v) > fl[l])
#else
#define ENTERS(l,v) ((v) > fl[l] && (VOTER(l) || jm != 0))
#endif
#define PUSH(v,l) :: d_step { UP(l) && rec[l] < (v) && ENTERS(l,v) -> printf("push %d at slot %d\n", v, l); set(l,v); if :: (v) > 1 && VOTER(l) && acked < (v) -> got[v] = got[v] | (1<<(l)) :: else -> skip fi } \
  :: d_step { (v) > 1 && UP(l) && VOTER(l) && acked < (v) && rec[l]==(v) && !(got[v] & (1<<(l))) -> got[v] = got[v] | (1<<(l)); printf("slot %d answers duplicate %d\n", l, v) }
#define ACK(v) :: d_step { PC(got[v]) >= 2 && acked < (v) -> acked = v; got[v] = 0; if :: (v) > 2 -> got[2] = 0 :: else -> skip fi; printf("ACK version %d\n", v) }
#ifdef BUG_PULL_OPEN
#define MARK(l) fl[l]
#else
#define MARK(l) cl[l]
#endif
#ifdef BUG_PULL_STALE
#define FRESH(l) 1
#else
#define FRESH(l) (pl-1 > MARK(l) || plc==MARK(l))
#endif
#define PULL(l,j) :: d_step { UP(l) && UP(j) && VOTER(l) && VOTER(j) && rec[j] > rec[l] && THAWED(l,rec[j]) -> printf("slot %d pulls %d from slot %d\n", l, rec[j], j); set(l, rec[j]) } \
  :: d_step { UP(l) && UP(j) && VOTER(l) && VOTER(j) && pl==0 && rec[j] > rec[l] && THAWED(l,rec[j]) -> pl = rec[j]+1; pld = l; plc = MARK(l); printf("slot %d asks slot %d, slow answer %d\n", l, j, rec[j]) }
#define GOTP(l) :: d_step { UP(l) && pl!=0 && pld==l -> if :: rec[l] < pl-1 && FRESH(l) && THAWED(l,pl-1) -> printf("slow answer %d enters slot %d\n", pl-1, l); set(l, pl-1) :: else -> skip fi; NOPULL }
#define NOPULL pl = 0; plc = 0; pld = 0
#define LOSE2 if :: pld==2 -> NOPULL :: else -> skip fi
/* rounds */
#define ALLOPEN(g) (op[g]==7)
#define BG(g) (1<<(g))
#define OPEN(g,l) :: d_step { !(dec & BG(g)) && UP(l) && !joining && !(op[g] & (1<<(l))) -> op[g] = op[g] | (1<<(l)); if :: fl[l] < (g) -> fl[l] = g :: else -> skip fi; printf("OPEN %d at slot %d\n", g, l) }
#if defined(BUG_COMPARE_FIRST)
#define CANCMP(g,a,b) 1
#elif defined(BUG_MAJORITY) || defined(BUG_DOWN)
#define CANCMP(g,a,b) ((op[g] & (1<<(a))) && (op[g] & (1<<(b))))
#else
#define CANCMP(g,a,b) ALLOPEN(g)
#endif
#define PAIR(a,b) (1 << ((a)+(b)-1))
#ifdef SNAP
#define AGREE(g,a,b) SN(g,a,b) SN(g,b,a)
#define SN(g,a,b) :: d_step { !(dec & BG(g)) && !joining && sna==0 && CANCMP(g,a,b) && !(ag[g] & PAIR(a,b)) -> sna = (a)*3+(b)+1; sng = g; snv = VIEW(a,g); printf("slot %d sends its list <= %d to %d: %d\n", a, g, b, snv) } \
  :: d_step { sna==(a)*3+(b)+1 && sng==(g) -> if :: !(dec & BG(g)) && !joining && snv==VIEW(b,g) -> ag[g] = ag[g] | PAIR(a,b); printf("slots %d and %d agree on <= %d\n", a, b, g) :: else -> skip fi; sna = 0; sng = 0; snv = 0 }
#else
#define AGREE(g,a,b) :: d_step { !(dec & BG(g)) && UP(a) && UP(b) && !joining && CANCMP(g,a,b) && !(ag[g] & PAIR(a,b)) && VIEW(a,g)==VIEW(b,g) -> ag[g] = ag[g] | PAIR(a,b); printf("slots %d and %d agree on <= %d\n", a, b, g) }
#endif
#if defined(BUG_MAJORITY)
#define ENOUGH(g) (ag[g] != 0)
#elif defined(BUG_DOWN)
#define ENOUGH(g) ((dn && (ag[g] & 1)) || (ALLOPEN(g) && ag[g]==7))
#elif defined(BUG_STAR)
#define ENOUGH(g) (ALLOPEN(g) && (ag[g] & 5)==5)
#else
#define ENOUGH(g) (ALLOPEN(g) && ag[g]==7)
#endif
#ifdef BUG_NO_FREEZE
#define ALLFZ(g) 1
#elif defined(BUG_MAJORITY) || defined(BUG_DOWN)
#define ALLFZ(g) (PC(fz[g]) >= 2)
#else
#define ALLFZ(g) (fz[g]==7)
#endif
#define DEC(g) FREEZE(g,0) FREEZE(g,1) FREEZE(g,2) :: d_step { !(dec & BG(g)) && !joining && ENOUGH(g) && ALLFZ(g) -> dec = dec | BG(g); op[g] = 0; ag[g] = 0; printf("round %d may close\n", g) }
#define CLOSE(g,l) :: d_step { (dec & BG(g)) && UP(l) && cl[l] < (g) && fl[l] >= (g) && VOTER(l) -> cl[l] = g; DROPS(l); printf("CLOSE %d at slot %d\n", g, l) }
#ifdef PURGE_JOINING
#define MAYPURGE(l) VOTER(l)
#else
#define MAYPURGE(l) (!joining)
#endif
#define PURGE(l) :: d_step { UP(l) && MAYPURGE(l) && TOMB(rec[l]) && rec[l] <= cl[l] -> rec[l] = 0; gone = 1; printf("purge at slot %d\n", l); assert((rec[0]!=1) && (rec[1]!=1) && (rec[2]!=1 || joining)) }
#ifdef THAW
#define THW(g,l) :: d_step { (fz[g] & (1<<(l))) && !(th[g] & (1<<(l))) && cl[l] < (g) -> th[g] = th[g] | (1<<(l)); printf("slot %d thaws by itself, round %d\n", l, g) }
#else
#define THW(g,l)
#endif
#ifdef CLOSE_DROPS
#define DROPS(l) if :: pld==(l) -> NOPULL :: else -> skip fi
#else
#define DROPS(l) skip
#endif
#define ROUND(g) THW(g,0) THW(g,1) THW(g,2) OPEN(g,0) OPEN(g,1) OPEN(g,2) AGREE(g,0,1) AGREE(g,0,2) AGREE(g,1,2) DEC(g) CLOSE(g,0) CLOSE(g,1) CLOSE(g,2)
/* gets */
#ifdef BUG_NO_READ_FLOOR
#define RFLOOR(l) skip
#else
#define RFLOOR(l) if :: rec[l]==0 && cl[l] > rfl -> rfl = cl[l] :: else -> skip fi
#endif
#define READ(l) :: d_step { rph==1 && UP(l) && VOTER(l) && !(rgot & (1<<(l))) -> printf("get reads slot %d: %d\n", l, rec[l]); if :: rgot!=0 && rec[l]!=rmax -> rdis = 1 :: else -> skip fi; rgot = rgot | (1<<(l)); if :: rec[l] > rmax -> rmax = rec[l] :: else -> skip fi; RFLOOR(l) }
#define HOLDERS ((HOLD(0,rmax) -> 1 : 0) + (HOLD(1,rmax) -> 1 : 0) + (HOLD(2,rmax) && VOTER(2) -> 1 : 0))
#define RDONE rph = 0; rfl = 0; rgot = 0; rmax = 0; rdis = 0; rst = 0
#define ONESLOT(l) PUSH(1,l) PUSH(2,l) PUSH(3,l) GOTP(l) PURGE(l) READ(l)
active proctype sys() {
  do
  ACK(2) ACK(3)
  ONESLOT(0) ONESLOT(1) ONESLOT(2)
  PULL(0,1) PULL(0,2) PULL(1,0) PULL(1,2) PULL(2,0) PULL(2,1)
  ROUND(2)
#ifndef ONEROUND
  ROUND(3)
#endif
  :: d_step { rph==0 && rn < READS -> rn++; rph = 1; rst = acked; printf("get starts, acked so far %d\n", acked) }
  :: d_step { rph==1 && PC(rgot) >= 2 -> if :: rmax <= rfl -> rmax = 0; rdis = 0; if :: rfl >= 2 && acked < 2 -> acked = 2 :: else -> skip fi :: else -> skip fi; printf("get sees %d\n", rmax);
       assert(!(rst >= 2 && rmax==1)); assert(!(rst==3 && rmax!=3));
       if :: !rdis -> if :: rmax > acked -> acked = rmax :: else -> skip fi; RDONE :: else -> rph = 2; rgot = 0; rfl = 0; rdis = 0; rst = 0 fi }
  :: d_step { rph==2 && HOLDERS >= 2 -> printf("get returns %d\n", rmax); if :: rmax > acked -> acked = rmax :: else -> skip fi; RDONE }
#ifdef BUG_DOWN
  :: d_step { !moved -> dn = 1; moved = 1; printf("slot 2 down\n") }
  :: d_step { dn -> dn = 0; printf("slot 2 up\n") }
#endif
#ifdef BUG_NOSYNC
  :: d_step { !moved && fl[2] > 0 -> moved = 1; fl[2] = 0; cl[2] = 0; LOSE2; printf("slot 2 restarts, floor lost\n") }
#endif
#ifdef VOLCLOSE
  :: d_step { cl[2] > 0 -> cl[2] = 0; LOSE2; printf("slot 2 restarts, closing forgotten\n") }
#endif
#if defined(MOVE) || defined(BUG_MOVE_NOFLOOR)
  :: d_step { !moved -> moved = 1; LOSE2; printf("slot 2 moved\n");
#ifdef BUG_MOVE_NOFLOOR
       fl[2] = 0; cl[2] = 0
#endif
     }
#endif
#ifdef REPL
  :: d_step { !joined && !joining -> joining = 1; rec[2] = 0; fl[2] = 0; cl[2] = 0; LOSE2; printf("slot 2 replaced, JOINING\n");
       got[1] = got[1] & 3; got[2] = got[2] & 3; got[3] = got[3] & 3; if :: rph==1 -> rgot = 0; rmax = 0; rfl = 0; rdis = 0 :: else -> skip fi;
#ifndef BUG_ROUND_ACROSS
       op[2] = 0; ag[2] = 0; op[3] = 0; ag[3] = 0; UNFZ(2); UNFZ(3)
#endif
     }
#define META(j) :: d_step { joining && !(jm & (1<<(j))) -> jm = jm | (1<<(j)); FCOPY(j); OLDV(j) printf("learner takes the floor of slot %d\n", j) }
#ifdef BUG_PULL_OLD_V
#define OLDV(j)
#else
#define OLDV(j) if :: pld==(j) -> NOPULL :: else -> skip fi;
#endif
#ifdef BUG_REPL_NOFLOOR
#define FCOPY(j) skip
#else
#define FCOPY(j) if :: fl[j] > fl[2] -> fl[2] = fl[j] :: else -> skip fi; if :: cl[j] > cl[2] -> cl[2] = cl[j] :: else -> skip fi
#endif
#define CPY(j) :: d_step { joining && (jm & (1<<(j))) && !(cpd & (1<<(j))) && lv==0 -> lv = rec[j]+1; cpd = cpd | (1<<(j)); printf("learner reads slot %d: %d\n", j, rec[j]) }
  META(0) META(1) CPY(0) CPY(1)
  :: d_step { joining && lv!=0 -> if :: rec[2] < lv-1 -> set(2, lv-1) :: else -> skip fi; lv = 0; printf("copy enters the learner\n") }
  :: d_step { joining && cpd==3 && lv==0 -> joining = 0; joined = 1; jm = 0; cpd = 0; printf("slot 2 READY\n") }
#endif
  od
}
