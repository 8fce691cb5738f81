/* Processes: forked from init, fed by shared memory, and asked one thing at a time. */
#include "agent.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

struct shm *S[NSLOT];
pid_t P[NSLOT];
int PST[NSLOT];

/* Before any process: a fork serves a slot that its parent must know. */
void slots_map(void)
{
	for (int k = 0; k < NSLOT; k++)
		S[k] = mmap(NULL, sizeof(struct shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
}

static int futex(volatile int *a, int op, int v, struct timespec *t)
{
	return syscall(SYS_futex, a, op, v, t, NULL, 0);
}

void serve(struct shm *s)
{
	int seen = 0;
	for (;;) {
		while (s->seq == seen)
			futex(&s->seq, FUTEX_WAIT, seen, NULL);
		seen = s->seq;
		act(s);
		s->done = seen;
		futex(&s->done, FUTEX_WAKE, 1, NULL);
	}
}

int spawn(int k, int oom)
{
	memset(S[k], 0, sizeof *S[k]);
	pid_t p = fork();
	if (p < 0)
		return -1;
	if (!p) {
		char b[32];
		signal(SIGALRM, SIG_DFL);
		catch_signals();
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(b, sizeof b, "%d", oom);
		do_write("/proc/self/oom_score_adj", b);
		zones_reopen();
		memset(iobuf, 0, 1);
		mlockall(MCL_CURRENT);
		serve(S[k]);
	}
	P[k] = p;
	PST[k] = -1;
	return p;
}

void reap(void)
{
	for (int k = 0; k < NSLOT; k++)
		if (P[k] > 0) {
			int st;
			if (waitpid(P[k], &st, WNOHANG) == P[k]) {
				P[k] = 0;
				PST[k] = st;
			}
		}
}

/* Have a process do something, and wait for it. */
enum outcome child_cmd(int k, const char *cmd, double seconds)
{
	struct shm *s = S[k];
	if (!P[k])
		return DIED;
	strncpy(s->cmd, cmd, sizeof s->cmd - 1);
	int q = s->seq + 1;
	s->seq = q;
	futex(&s->seq, FUTEX_WAKE, 1, NULL);
	double t0 = now();
	while (s->done != q) {
		struct timespec ts = { 0, 50000000 };
		int d = s->done;
		if (d != q)
			futex(&s->done, FUTEX_WAIT, d, &ts);
		reap();
		if (!P[k])
			return DIED;
		if (now() - t0 > seconds)
			return TIMED_OUT;
	}
	return ANSWERED;
}
