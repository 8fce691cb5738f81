/* What the files of the agent share; agent.c says what the agent is. */
#ifndef AGENT_H
#define AGENT_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define MAXARG 24 /* words of a command */
#define NSLOT 16  /* processes */
#define NMAP 64   /* mappings of a process */
#define MAXZ 64   /* zones */
#define HUGETLB_HEAD(flags) (((flags) >> 17 & 1) && ((flags) >> 15 & 1)) /* of /proc/kpageflags */

/* -- files.c: the way out, files, zones */
extern const char *cur_id; /* of the command that is being answered */
extern char iobuf[1 << 20];
void raw_out(const void *p, size_t n);
void blob(const char *key, const void *p, size_t n);
double now(void);
int rd_count(const char *path);
ssize_t slurp_fd(int fd, char *buf, size_t cap, int chunk);
ssize_t slurp(const char *path, char *buf, size_t cap);
long do_write(const char *path, const char *val);
void keep_open(void);
int split(char *s, char **a);

struct zfree {
	int node;
	char zone[16];
	long free, min, low, high, managed, file;
	long prot[8];
	int zidx;
};
extern struct zfree zf[MAXZ];
extern int nzf;
int zones_read(void);
void zones_reopen(void);
long file_pages(int node);
long allocatable(int node, int idx);

/* -- process.c: processes that map and touch memory; acts.c: what they do */
struct shm {
	volatile int seq;  /* init counts up: a command is there */
	volatile int done; /* the process sets it to seq when it is through */
	long ret;
	int err;
	double secs;
	char cmd[4096];
	char out[60000];
};
enum outcome { ANSWERED, DIED, TIMED_OUT };
extern struct shm *S[NSLOT];
extern pid_t P[NSLOT]; /* 0: there is none */
extern int PST[NSLOT]; /* the last wait status, -1 while it runs */
void slots_map(void);
int spawn(int k, int oom);
void reap(void);
enum outcome child_cmd(int k, const char *cmd, double seconds);
void serve(struct shm *s);
void act(struct shm *s);
void catch_signals(void);

/* -- snapshot.c: files that are read out after a step */
int sn_scan(void);
void sn_add(const char *p);
void sn_drop(const char *pre);
void snapshot(const char *flags);
void pages_by_block(unsigned long blockpages);
size_t hugepage_heads(unsigned long from, unsigned long to, char *out, size_t size, long *count);

/* -- mounts.c: cgroups, hugetlbfs, the disk */
#define CG "/sys/fs/cgroup"
long cg_make(const char *path);
long cg_remove(const char *path);
long hugetlbfs_mount(const char *dir, const char *options);
long hugetlbfs_umount(const char *dir);
void hugetlbfs_report(void);
long disk_open(void);
long disk_fill(int which, long mib, double seconds, int cpu, int times);

#endif
