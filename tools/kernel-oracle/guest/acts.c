/* What a process does: maps, touches and gives back memory. */
#include "agent.h"

#include <linux/falloc.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#define PIPE_PAGES 256

static struct {
	char *p;
	size_t psz;
	long n;
} M[NMAP];
static char *bal;
static long bal_max, bal_n; /* 4K pages */
static int (*pp)[2];
static long pp_n, pp_full, pp_part; /* pipes, pages per pipe, full pipes, pages in the current one */
static sigjmp_buf jb;
static volatile int in_touch;
static void on_bus(int s, siginfo_t *si, void *u)
{
	(void)si;
	(void)u;
	if (in_touch) {
		in_touch = 0;
		siglongjmp(jb, s);
	}
	_exit(100 + s);
}

void catch_signals(void)
{
	struct sigaction sa = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER };
	sigaction(SIGBUS, &sa, 0);
	sigaction(SIGSEGV, &sa, 0);
}

static void oprintf(struct shm *s, const char *f, ...)
{
	size_t l = strlen(s->out);
	va_list ap;
	va_start(ap, f);
	vsnprintf(s->out + l, sizeof s->out - l, f, ap);
	va_end(ap);
}

static char onepage[4096];
static long pipes_grow(long want) /* pages; returns pages added */
{
	long done = 0;
	while (done < want) {
		if (pp_part == 0) {
			if (pp_full >= pp_n)
				break;
		}
		ssize_t r = write(pp[pp_full][1], onepage, 4096);
		if (r != 4096)
			break;
		done++;
		if (++pp_part == PIPE_PAGES) {
			pp_part = 0;
			pp_full++;
		}
	}
	return done;
}

static long pipes_shrink(long want)
{
	long done = 0;
	while (done < want) {
		if (pp_part == 0) {
			if (pp_full == 0)
				break;
			pp_full--;
			pp_part = PIPE_PAGES;
		}
		if (read(pp[pp_full][0], onepage, 4096) != 4096)
			break;
		pp_part--;
		done++;
	}
	memset(onepage, 0x5a, sizeof onepage);
	return done;
}

static long bal_grow(long want)
{
	long done = 0;
	while (done < want && bal_n < bal_max) {
		bal[bal_n * 4096] = 1;
		bal_n++;
		done++;
	}
	return done;
}

/* Grow until at most TARGET pages are allocatable, halving the distance; near the end page by page, as a refill of a
   per-CPU list takes a whole batch at once.  Zone -1: until no more than TARGET pages of page cache are left. */
static long until(long (*grow)(long), int node, int idx, long target)
{
	long total = 0;
	for (;;) {
		long f = idx < 0 ? file_pages(node) : allocatable(node, idx);
		if (f < 0 || f <= target)
			break;
		long step = f < 1500 ? 1 : (f - target) / 2;
		if (step < 1)
			step = 1;
		if (step > 20000)
			step = 20000;
		long g = grow(step);
		total += g;
		if (g < step)
			break;
	}
	return total;
}

/* huge-map: id sizeKB count flags [file offset-in-pages] */
static void act_huge_map(struct shm *s, int n, char **a)
{
	int id = atoi(a[1]);
	size_t psz = strtoul(a[2], 0, 0) * 1024UL;
	long cnt = atol(a[3]);
	int fl = n > 5 ? 0 : MAP_ANONYMOUS, ffd = -1;
	for (char *c = a[4]; *c; c++) {
		if (*c == 'p')
			fl |= MAP_PRIVATE;
		if (*c == 's')
			fl |= MAP_SHARED;
		if (*c == 'n')
			fl |= MAP_NORESERVE;
		if (*c == 'P')
			fl |= MAP_POPULATE;
	}
	if (psz > 4096 && n <= 5)
		fl |= MAP_HUGETLB | (__builtin_ctzl(psz) << MAP_HUGE_SHIFT);
	if (n > 5)
		ffd = open(a[5], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *p = n > 5 && ffd < 0 ? MAP_FAILED :
		  mmap(NULL, psz * cnt, PROT_READ | PROT_WRITE, fl, ffd, n > 6 ? psz * atol(a[6]) : 0);
	int me = errno;
	if (ffd >= 0)
		close(ffd);
	if (p == MAP_FAILED) {
		s->ret = -1;
		s->err = me;
	} else {
		M[id].p = p;
		M[id].psz = psz;
		M[id].n = cnt;
	}
}

/* huge-touch, huge-write, huge-read: id from count -> pages touched (written, or only read); a signal is named in out */
static void act_huge_touch(struct shm *s, int n, char **a)
{
	char how = a[0][5] == 'r' ? 'r' : 'w';
	volatile char sum = 0;
	int id = atoi(a[1]);
	volatile long i = atol(a[2]);
	long to = i + atol(a[3]), from = i;
	int sg = sigsetjmp(jb, 1);
	if (!sg) {
		in_touch = 1;
		for (; i < to; i++)
			if (how == 'r')
				sum += *(volatile char *)(M[id].p + i * M[id].psz);
			else
				*(volatile char *)(M[id].p + i * M[id].psz) = 1;
		in_touch = 0;
		s->ret = i - from;
	} else {
		s->ret = i - from;
		oprintf(s, "signal=%d at=%ld\n", sg, i);
	}
}

/* huge-unmap: id [from count] */
static void act_huge_unmap(struct shm *s, int n, char **a)
{
	int id = atoi(a[1]);
	long f = n > 3 ? atol(a[2]) : 0, c = n > 3 ? atol(a[3]) : M[id].n;
	s->ret = munmap(M[id].p + f * M[id].psz, c * M[id].psz);
	s->err = errno;
}

/* huge-madvise: id advice */
static void act_huge_madvise(struct shm *s, int n, char **a)
{
	int id = atoi(a[1]);
	s->ret = madvise(M[id].p, M[id].n * M[id].psz, atoi(a[2]));
	s->err = errno;
}

/* pfns: id: pfn of the head of every page of the mapping */
static void act_pfns(struct shm *s, int n, char **a)
{
	int id = atoi(a[1]);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	for (long i = 0; i < M[id].n; i++) {
		uint64_t v = 0;
		pread(fd, &v, 8, ((uintptr_t)M[id].p + i * M[id].psz) / 4096 * 8);
		oprintf(s, "%s%lx", i ? " " : "", (v >> 63) ? (unsigned long)(v & ((1UL << 55) - 1)) : 0UL);
		s->ret++;
	}
	close(fd);
}

/* anon-map: maxMB flags: t=thp l=mlock ; node */
static void act_anon_map(struct shm *s, int n, char **a)
{
	size_t sz = strtoul(a[1], 0, 0) << 20;
	bal = mmap(NULL, sz, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bal == MAP_FAILED) {
		s->ret = -1;
		s->err = errno;
		bal = NULL;
	} else {
		bal_max = sz / 4096;
		bal_n = 0;
		if (madvise(bal, sz, strchr(a[2], 't') ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
			oprintf(s, "madvise: %s\n", strerror(errno));
		if (strchr(a[2], 'l') && mlock2(bal, sz, MLOCK_ONFAULT))
			oprintf(s, "mlock2: %s\n", strerror(errno));
		if (n > 3 && atoi(a[3]) >= 0) {
			unsigned long m = 1UL << atoi(a[3]);
			if (syscall(SYS_mbind, bal, sz, MPOL_BIND, &m, 64UL, 0))
				oprintf(s, "mbind: %s\n", strerror(errno));
		}
	}
}

/* anon-grow */
static void act_anon_grow(struct shm *s, int n, char **a)
{
	s->ret = bal_grow(atol(a[1]));
}

/* anon-until: node zone_index pages */
static void act_anon_until(struct shm *s, int n, char **a)
{
	s->ret = until(bal_grow, atoi(a[1]), atoi(a[2]), atol(a[3]));
}

/* anon-shrink: [pages from the tail] */
static void act_anon_shrink(struct shm *s, int n, char **a)
{
	long c = n > 1 ? atol(a[1]) : bal_n;
	if (c > bal_n)
		c = bal_n;
	s->ret = madvise(bal + (bal_n - c) * 4096, c * 4096, MADV_DONTNEED);
	if (s->ret && errno == EINVAL) /* it is locked */
		s->ret = madvise(bal + (bal_n - c) * 4096, c * 4096, MADV_DONTNEED_LOCKED);
	s->err = errno;
	if (!s->ret) {
		bal_n -= c;
		s->err = 0;
		s->ret = c;
	}
}

/* kernel-map: MiB */
static void act_kernel_map(struct shm *s, int n, char **a)
{
	long mb = atol(a[1]);
	struct rlimit rl = { 2 * mb + 4096, 2 * mb + 4096 };
	setrlimit(RLIMIT_NOFILE, &rl);
	pp = calloc(mb, sizeof *pp);
	for (pp_n = 0; pp_n < mb; pp_n++) {
		if (pipe2(pp[pp_n], O_NONBLOCK)) {
			s->ret = -1;
			s->err = errno;
			break;
		}
		if (fcntl(pp[pp_n][1], F_SETPIPE_SZ, PIPE_PAGES * 4096) < 0) {
			s->ret = -1;
			s->err = errno;
			break;
		}
	}
	memset(onepage, 0x5a, sizeof onepage);
	oprintf(s, "pipes=%ld\n", pp_n);
}

/* kernel-grow */
static void act_kernel_grow(struct shm *s, int n, char **a)
{
	s->ret = pipes_grow(atol(a[1]));
}

/* kernel-until: node zone_index pages */
static void act_kernel_until(struct shm *s, int n, char **a)
{
	s->ret = until(pipes_grow, atoi(a[1]), atoi(a[2]), atol(a[3]));
}

/* kernel-shrink */
static void act_kernel_shrink(struct shm *s, int n, char **a)
{
	s->ret = pipes_shrink(n > 1 ? atol(a[1]) : 1L << 40);
}

/* kernel-thin: keep N pages in every full pipe, drain the rest */
static void act_kernel_thin(struct shm *s, int n, char **a)
{
	long keep = atol(a[1]);
	for (long i = 0; i < pp_full; i++)
		for (long j = keep; j < PIPE_PAGES; j++)
			if (read(pp[i][0], onepage, 4096) == 4096)
				s->ret++;
	pp_n = 0; /* no more growing */
	memset(onepage, 0x5a, sizeof onepage);
}

/* mempolicy: mode mask */
static void act_mempolicy(struct shm *s, int n, char **a)
{
	unsigned long m = strtoul(a[2], 0, 0);
	s->ret = syscall(SYS_set_mempolicy, atoi(a[1]), m ? &m : NULL, m ? 64UL : 0UL);
	s->err = errno;
}

/* run-on-cpu */
static void act_run_on_cpu(struct shm *s, int n, char **a)
{
	cpu_set_t c;
	CPU_ZERO(&c);
	CPU_SET(atoi(a[1]), &c);
	s->ret = sched_setaffinity(0, sizeof c, &c);
	s->err = errno;
}

/* write */
static void act_write(struct shm *s, int n, char **a)
{
	s->ret = do_write(a[1], a[2]);
	s->err = s->ret < 0 ? errno : 0;
}

/* fork: slot: the copy serves that slot; init is its parent */
static void act_fork(struct shm *s, int n, char **a)
{
	int k = atoi(a[1]);
	pid_t p = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (!p) {
		do_write("/proc/self/oom_score_adj", "1000");
		serve(S[k]);
	}
	s->ret = p;
	s->err = p < 0 ? errno : 0;
}

/* anon-pin: [pages from the start]: a long-term pin, as io_uring registers buffers */
static void act_anon_pin(struct shm *s, int n, char **a)
{
	struct io_uring_params par;
	memset(&par, 0, sizeof par);
	long c = n > 1 ? atol(a[1]) : bal_n, nv = 0;
	static struct iovec v[64];
	for (long at = 0; at < c && nv < 64; at += 262144) {
		v[nv].iov_base = bal + at * 4096;
		v[nv++].iov_len = (c - at < 262144 ? c - at : 262144) * 4096;
	}
	int rfd = syscall(SYS_io_uring_setup, 4, &par);
	s->ret = rfd < 0 ? -1 : syscall(SYS_io_uring_register, rfd, IORING_REGISTER_BUFFERS, v, nv);
	s->err = s->ret < 0 ? errno : 0;
	if (s->ret >= 0)
		s->ret = c;
}

/* huge-file: op path sizeKB from count: on hugetlbfs; size and blocks afterwards */
static void act_huge_file(struct shm *s, int n, char **a)
{
	size_t psz = strtoul(a[3], 0, 0) * 1024UL, from = strtoul(a[4], 0, 0) * psz, len = strtoul(a[5], 0, 0) * psz;
	struct stat st;
	int fd = -1;
	if (!strcmp(a[1], "unlink"))
		s->ret = unlink(a[2]);
	else if ((fd = open(a[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
		s->ret = -1;
	else if (!strcmp(a[1], "fallocate"))
		s->ret = fallocate(fd, 0, from, len);
	else if (!strcmp(a[1], "punch"))
		s->ret = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, len);
	else if (!strcmp(a[1], "truncate"))
		s->ret = ftruncate(fd, len);
	s->err = s->ret < 0 ? errno : 0;
	if (fd >= 0) {
		if (!fstat(fd, &st))
			oprintf(s, "size %ld blocks %ld\n", (long)st.st_size, (long)st.st_blocks);
		close(fd);
	}
}

/* huge-file-allocate: path nMB: file on hugetlbfs */
static void act_huge_file_allocate(struct shm *s, int n, char **a)
{
	int fd = open(a[1], O_RDWR | O_CREAT, 0600);
	s->ret = fd < 0 ? -1 : fallocate(fd, 0, 0, atol(a[2]) << 20);
	s->err = errno;
	if (fd >= 0)
		close(fd);
}

static const struct {
	const char *name;
	void (*run)(struct shm *s, int n, char **a);
} ACTS[] = {
	{ "huge-map", act_huge_map },
	{ "huge-touch", act_huge_touch },
	{ "huge-write", act_huge_touch },
	{ "huge-read", act_huge_touch },
	{ "huge-unmap", act_huge_unmap },
	{ "huge-madvise", act_huge_madvise },
	{ "pfns", act_pfns },
	{ "anon-map", act_anon_map },
	{ "anon-grow", act_anon_grow },
	{ "anon-until", act_anon_until },
	{ "anon-shrink", act_anon_shrink },
	{ "kernel-map", act_kernel_map },
	{ "kernel-grow", act_kernel_grow },
	{ "kernel-until", act_kernel_until },
	{ "kernel-shrink", act_kernel_shrink },
	{ "kernel-thin", act_kernel_thin },
	{ "mempolicy", act_mempolicy },
	{ "run-on-cpu", act_run_on_cpu },
	{ "write", act_write },
	{ "fork", act_fork },
	{ "anon-pin", act_anon_pin },
	{ "huge-file", act_huge_file },
	{ "huge-file-allocate", act_huge_file_allocate },
};

/* Do what the command in shared memory says. */
void act(struct shm *s)
{
	static char cmd[4096];
	char *a[MAXARG];
	strcpy(cmd, s->cmd);
	int n = split(cmd, a);
	s->ret = -1;
	s->err = ENOSYS;
	s->out[0] = 0;
	double began = now();
	for (size_t i = 0; i < sizeof ACTS / sizeof ACTS[0]; i++)
		if (!strcmp(a[0], ACTS[i].name)) {
			s->ret = s->err = errno = 0;
			ACTS[i].run(s, n, a);
			break;
		}
	s->secs = now() - began;
}
