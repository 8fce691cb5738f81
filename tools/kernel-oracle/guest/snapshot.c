/* Files that are read out after a step.  They stay open, so that reading them takes no memory. */
#include "agent.h"

#include <ctype.h>
#include <dirent.h>

#define MAXSNAP 2048
static struct {
	char path[128];
	int fd;
} SN[MAXSNAP];
static int nsn;
void sn_add(const char *p)
{
	for (int i = 0; i < nsn; i++)
		if (!strcmp(SN[i].path, p))
			return;
	if (nsn == MAXSNAP)
		return;
	int fd = open(p, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	slurp_fd(fd, iobuf, sizeof iobuf, rd_count(p)); /* its buffer is there from now on */
	strcpy(SN[nsn].path, p);
	SN[nsn++].fd = fd;
}

static int isdirstart(const struct dirent *d, const char *pre)
{
	return !strncmp(d->d_name, pre, strlen(pre));
}

static void sn_dir(const char *dir) /* every regular file in dir */
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char b[400];
	if (!d)
		return;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			snprintf(b, sizeof b, "%s/%s", dir, e->d_name);
			if (strlen(b) < 128)
				sn_add(b);
		}
	closedir(d);
}

/* Call a function for each entry of a folder whose name begins with a prefix and, perhaps, a digit behind it. */
static void each(const char *dir, const char *pre, int digit, void (*found)(const char *path))
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char b[600];
	if (!d)
		return;
	while ((e = readdir(d)))
		if (isdirstart(e, pre) && (!digit || isdigit(e->d_name[strlen(pre)]))) {
			snprintf(b, sizeof b, "%.300s/%.200s", dir, e->d_name);
			found(b);
		}
	closedir(d);
}

static void sn_below(const char *dir, const char *name)
{
	char b[700];
	snprintf(b, sizeof b, "%s/%s", dir, name);
	if (strlen(b) < 128)
		sn_add(b);
}

static void sn_node(const char *dir)
{
	char b[700];
	sn_below(dir, "meminfo");
	sn_below(dir, "vmstat");
	snprintf(b, sizeof b, "%s/hugepages", dir);
	each(b, "hugepages-", 0, sn_dir);
}

static void sn_block(const char *dir)
{
	static const char *names[] = { "state", "removable", "valid_zones", "phys_index", "phys_device", "online" };
	for (int i = 0; i < 6; i++)
		sn_below(dir, names[i]);
}

/* Look anew which files there are; cgroups are kept, as no folder says which there are.  Returns how many. */
int sn_scan(void)
{
	static const char *fixed[] = {
		"/proc/meminfo",
		"/proc/buddyinfo",
		"/proc/pagetypeinfo",
		"/proc/zoneinfo",
		"/proc/vmstat",
		"/proc/cmdline",
		"/proc/sys/vm/nr_hugepages",
		"/proc/sys/vm/nr_hugepages_mempolicy",
		"/proc/sys/vm/nr_overcommit_hugepages",
		"/proc/sys/vm/hugetlb_optimize_vmemmap",
		"/proc/sys/vm/min_free_kbytes",
		"/proc/sys/vm/lowmem_reserve_ratio",
		"/proc/sys/vm/watermark_scale_factor",
		"/sys/devices/system/memory/block_size_bytes",
		"/sys/devices/system/memory/auto_online_blocks",
		"/sys/kernel/debug/x86/direct_gbpages",
	};
	static char kept[256][128];
	int nkept = 0;
	for (int i = 0; i < nsn; i++) {
		close(SN[i].fd);
		if (!strncmp(SN[i].path, CG "/", strlen(CG "/")) && nkept < 256)
			strcpy(kept[nkept++], SN[i].path);
	}
	nsn = 0;
	for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
		sn_add(fixed[i]);
	each("/sys/kernel/mm/hugepages", "hugepages-", 0, sn_dir);
	each("/sys/devices/system/node", "node", 1, sn_node);
	each("/sys/devices/system/memory", "memory", 1, sn_block);
	for (int i = 0; i < nkept; i++)
		sn_add(kept[i]);
	return nsn;
}

void sn_drop(const char *pre)
{
	int k = 0;
	for (int i = 0; i < nsn; i++)
		if (!strncmp(SN[i].path, pre, strlen(pre)))
			close(SN[i].fd);
		else
			SN[k++] = SN[i];
	nsn = k;
}

/* Read everything out.  Flags: l, lean (drop no caches, do not bring statistics up to date); d, do not drop caches. */
void snapshot(const char *flags)
{
	if (!strchr(flags, 'l')) {
		if (!strchr(flags, 'd'))
			do_write("/proc/sys/vm/drop_caches", "3");
		do_write("/proc/sys/vm/stat_refresh", "1");
	}
	for (int i = 0; i < nsn; i++) {
		ssize_t n = slurp_fd(SN[i].fd, iobuf, sizeof iobuf, rd_count(SN[i].path));
		if (n < 0)
			n = snprintf(iobuf, sizeof iobuf, "!errno=%d", errno);
		blob(SN[i].path, iobuf, n);
	}
	hugetlbfs_report();
}

/* Pages of a memory block by kind, from the bits of /proc/kpageflags; a page can be of several kinds. */
#define KINDS 10
static const char *kind_names[KINDS] = { "hugehead", "huge", "buddy",   "slab",    "lru",
					 "anon",     "reserved", "pgtable", "offline", "noflag" };

static int is_kind(int kind, uint64_t flags, unsigned long pfn)
{
	static const int bits[KINDS] = { 0, 17, 10, 7, 5, 12, 32, 26, 23, 0 };
	if (kind == 0)
		return HUGETLB_HEAD(flags) && pfn % 512 == 0;
	if (kind == 5)
		return (flags >> 12 & 1) && !(flags >> 17 & 1);
	return kind == 9 ? flags == 0 : flags >> bits[kind] & 1;
}

static size_t block_line(char *out, size_t size, unsigned long block, const unsigned long *count, unsigned long holes)
{
	size_t o = snprintf(out, size, "block %lu", block);
	for (int i = 0; i < KINDS; i++)
		o += snprintf(out + o, size - o, " %s %lu", kind_names[i], count[i]);
	return o + snprintf(out + o, size - o, " nopage %lu\n", holes);
}

static uint64_t flags_of[16384];

static ssize_t read_flags(int fd, unsigned long pfn, size_t pages)
{
	if (pages > 16384)
		pages = 16384;
	ssize_t got = pread(fd, flags_of, pages * 8, pfn * 8);
	return got < 0 ? 0 : got / 8;
}

/* One line for each memory block that has pages. */
void pages_by_block(unsigned long blockpages)
{
	static char out[1 << 18];
	static int fd = -1;
	unsigned long pfn = 0, count[KINDS] = { 0 }, holes = 0;
	size_t o = 0;
	if (fd < 0)
		fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	for (ssize_t got = 16384; got == 16384;) {
		got = fd < 0 ? 0 : read_flags(fd, pfn, 16384);
		for (long i = 0; i < got; i++, pfn++) {
			if (flags_of[i] >> 20 & 1) /* there is no page */
				holes++;
			else
				for (int k = 0; k < KINDS; k++)
					count[k] += is_kind(k, flags_of[i], pfn);
			if ((pfn + 1) % blockpages)
				continue;
			if (holes < blockpages)
				o += block_line(out + o, sizeof out - o, pfn / blockpages, count, holes);
			memset(count, 0, sizeof count);
			holes = 0;
		}
	}
	blob("data", out, o);
}

/* Frame numbers of the heads of huge pages in [from, to), in hexadecimal; the bytes written. */
size_t hugepage_heads(unsigned long from, unsigned long to, char *out, size_t size, long *count)
{
	size_t o = 0;
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	for (ssize_t got; from < to && (got = read_flags(fd, from, to - from)) > 0; from += got)
		for (long i = 0; i < got; i++)
			if (HUGETLB_HEAD(flags_of[i]) && (from + i) % 512 == 0 && o + 20 < size) {
				o += snprintf(out + o, size - o, "%lx ", from + i);
				++*count;
			}
	close(fd);
	return o;
}
