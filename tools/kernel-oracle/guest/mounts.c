/* cgroups, mounts of hugetlbfs, and the disk whose reading fills the page cache. */
#include "agent.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

static int cg_mounted;

static void cg_files(const char *path) /* add a group's files to the snapshot */
{
	static const char *size[] = { "2MB", "1GB" },
			  *word[] = { "current", "max", "rsvd.current", "rsvd.max", "events", "events.local" };
	char b[400];
	for (int i = 0; i < 2; i++)
		for (int j = 0; j < 6; j++) {
			snprintf(b, sizeof b, CG "/%s/hugetlb.%s.%s", path, size[i], word[j]);
			if (strlen(b) < 128)
				sn_add(b);
		}
}

long cg_make(const char *path)
{
	char b[400];
	if (!cg_mounted) {
		if (mount("cgroup2", CG, "cgroup2", 0, NULL))
			return -1;
		cg_mounted = 1;
	}
	snprintf(b, sizeof b, CG "/%s", path);
	*strrchr(b, '/') = 0;
	strcat(b, "/cgroup.subtree_control");
	if (do_write(b, "+hugetlb") < 0)
		return -1;
	snprintf(b, sizeof b, CG "/%s", path);
	if (mkdir(b, 0755))
		return -1;
	cg_files(path);
	return 0;
}

long cg_remove(const char *path)
{
	char b[400];
	snprintf(b, sizeof b, CG "/%s/", path);
	sn_drop(b);
	b[strlen(b) - 1] = 0;
	long r = rmdir(b);
	int e = errno;
	if (r)
		cg_files(path);
	errno = e;
	return r;
}

static char HM[16][128]; /* mounts whose statfs is read out */
static int nhm;

void hugetlbfs_report(void)
{
	for (int i = 0; i < nhm; i++) {
		struct statfs f;
		char k[192], b[200];
		if (statfs(HM[i], &f))
			continue;
		snprintf(k, sizeof k, "statfs:%.127s", HM[i]);
		int l = snprintf(b, sizeof b, "bsize %ld blocks %ld bfree %ld bavail %ld files %ld ffree %ld\n", (long)f.f_bsize,
				 (long)f.f_blocks, (long)f.f_bfree, (long)f.f_bavail, (long)f.f_files, (long)f.f_ffree);
		blob(k, b, l);
	}
}

long hugetlbfs_mount(const char *dir, const char *options)
{
	mkdir(dir, 0755);
	long ret = mount("hugetlbfs", dir, "hugetlbfs", 0, options);
	if (!ret && nhm < 16)
		strcpy(HM[nhm++], dir);
	return ret;
}

long hugetlbfs_umount(const char *dir)
{
	long ret = umount(dir);
	for (int i = 0; !ret && i < nhm; i++)
		if (!strcmp(HM[i], dir))
			memmove(HM[i], HM[i + 1], sizeof HM[0] * (--nhm - i));
	return ret;
}

static int disk_fd[3] = { -1, -1, -1 }; /* a file of nothing but a hole, the device itself, a file to write to */
static off_t disk_at[3];
long disk_open(void)
{
	struct stat st;
	for (int i = 0; i < 100 && stat("/dev/nvme0n1", &st); i++)
		usleep(100000);
	mkdir("/mnt/disk", 0755);
	if (mount("/dev/nvme0n1", "/mnt/disk", "ext4", MS_NOATIME, NULL))
		return -1;
	disk_fd[0] = open("/mnt/disk/hole", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	disk_fd[1] = open("/dev/nvme0n1", O_RDONLY | O_CLOEXEC);
	disk_fd[2] = open("/mnt/disk/written", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	disk_at[1] = 1L << 30; /* away from what the file system keeps */
	return disk_fd[0] < 0 || disk_fd[1] < 0 || disk_fd[2] < 0 ? -1 : ftruncate(disk_fd[0], 1L << 40);
}

static long disk_read(int which, long mib, double until) /* sequentially; MiB that were read or written */
{
	long done = 0;
	for (; done < mib && now() < until; done++) {
		ssize_t r = 1;
		for (int page = 0; page < 256 && r == 1 && which < 2; page++) /* a byte of each page: copying is what takes long */
			r = pread(disk_fd[which], iobuf, 1, disk_at[which] + page * 4096);
		if (which == 2)
			r = pwrite(disk_fd[2], iobuf, 1 << 20, disk_at[2]) == 1 << 20;
		if (r == 0 && which == 1 && disk_at[1]) { /* the end of the device */
			disk_at[1] = 0;
			continue;
		}
		if (r != 1)
			return done ? done : -1;
		disk_at[which] += 1 << 20;
	}
	return done;
}

/* which: 0 the file, 1 the device, 2 write; cpu: -1 for any; times: read the same again and again, for active pages */
long disk_fill(int which, long mib, double seconds, int cpu, int times)
{
	cpu_set_t here, was;
	long ret = 0;
	sched_getaffinity(0, sizeof was, &was);
	CPU_ZERO(&here);
	if (cpu >= 0) {
		CPU_SET(cpu, &here);
		sched_setaffinity(0, sizeof here, &here);
	}
	double end = now() + seconds;
	for (int i = times; i > 0; i--) {
		off_t from = disk_at[which];
		ret = disk_read(which, mib, end);
		if (i > 1)
			disk_at[which] = from;
	}
	int e = errno;
	sched_setaffinity(0, sizeof was, &was);
	errno = e;
	return ret;
}
