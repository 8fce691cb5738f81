/* The way out, reading and writing files with little memory, and what /proc/zoneinfo says. */
#include "agent.h"

#include <sys/io.h>
#include <time.h>

void raw_out(const void *p, size_t n)
{
	while (n) {
		size_t k = n > 4096 ? 4096 : n;
		outsb(0xe9, p, k);
		p = (const char *)p + k;
		n -= k;
	}
}

const char *cur_id = "0";

void blob(const char *key, const void *p, size_t n)
{
	char h[512];
	int l = snprintf(h, sizeof h, "#B %s %s %zu\n", cur_id, key, n);
	raw_out(h, l);
	raw_out(p, n);
	raw_out("\n", 1);
}

double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

char iobuf[1 << 20];

int rd_count(const char *path) /* how much to ask for: sysctl allocates a buffer of this size */
{
	return strncmp(path, "/proc/sys/", 10) == 0 ? 256 : 65536;
}

ssize_t slurp_fd(int fd, char *buf, size_t cap, int chunk)
{
	size_t n = 0;
	lseek(fd, 0, SEEK_SET);
	while (n < cap) {
		size_t want = cap - n;
		if (want > (size_t)chunk)
			want = chunk;
		ssize_t r = read(fd, buf + n, want);
		if (r < 0) {
			if (errno == EINTR)
				continue;
			return n ? (ssize_t)n : -1;
		}
		if (r == 0)
			break;
		n += r;
	}
	return n;
}

ssize_t slurp(const char *path, char *buf, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = slurp_fd(fd, buf, cap, rd_count(path));
	int e = errno;
	close(fd);
	errno = e;
	return n;
}

static struct {
	char path[128];
	int fd;
} PIN[64];
static int npin;

long do_write(const char *path, const char *val)
{
	for (int i = 0; i < npin; i++)
		if (!strcmp(PIN[i].path, path)) {
			lseek(PIN[i].fd, 0, SEEK_SET);
			return write(PIN[i].fd, val, strlen(val));
		}
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	long r = write(fd, val, strlen(val));
	int e = errno;
	close(fd);
	errno = e;
	return r;
}

/* Files that are written often stay open. */
void keep_open(void)
{
	static const char *pins[] = { "/proc/sys/vm/drop_caches", "/proc/sys/vm/stat_refresh", "/proc/sys/vm/nr_hugepages",
				      "/proc/sys/vm/min_free_kbytes",
				      "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
				      "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages",
				      "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
				      "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
				      "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", NULL };
	for (int i = 0; pins[i]; i++) {
		int f = open(pins[i], O_WRONLY | O_CLOEXEC);
		if (f >= 0) {
			strcpy(PIN[npin].path, pins[i]);
			PIN[npin++].fd = f;
		}
	}
}

static void unesc(char *s) /* \\n \\t \\\\ */
{
	char *d = s;
	for (; *s; s++)
		if (*s == '\\' && s[1]) {
			s++;
			*d++ = *s == 'n' ? '\n' : *s == 't' ? '\t' : *s;
		} else
			*d++ = *s;
	*d = 0;
}

int split(char *s, char **a)
{
	int n = 0;
	char *p = s;
	while (p && n < MAXARG) {
		a[n++] = p;
		p = strchr(p, '\t');
		if (p)
			*p++ = 0;
	}
	for (int i = 0; i < n; i++)
		unesc(a[i]);
	return n;
}

struct zfree zf[MAXZ];
int nzf;
static int zi_fd = -1;
static char zibuf[1 << 18];

static int zone_index(const char *name)
{
	static const char *names[] = { "DMA", "DMA32", "Normal", "Movable" };
	for (int i = 0; i < 4; i++)
		if (!strcmp(name, names[i]))
			return i;
	return 4;
}

static void read_protection(struct zfree *z, char *text)
{
	char *p = strchr(text, '(') + 1;
	for (int i = 0; i < 8 && p; i++) {
		z->prot[i] = strtol(p, &p, 10);
		p = strchr(p, ',');
		if (p)
			p++;
	}
}

/* A line of /proc/zoneinfo below the name of its zone.  The first "high" is the zone's, later ones are of CPUs. */
static void read_zone_line(struct zfree *z, char *s)
{
	long v;
	if (sscanf(s, " pages free %ld", &v) == 1)
		z->free = v;
	else if (sscanf(s, " min %ld", &v) == 1)
		z->min = v;
	else if (sscanf(s, " low %ld", &v) == 1)
		z->low = v;
	else if (sscanf(s, " high %ld", &v) == 1 && !z->high)
		z->high = v;
	else if (sscanf(s, " managed %ld", &v) == 1)
		z->managed = v;
	else if (sscanf(s, " nr_zone_inactive_file %ld", &v) == 1 || sscanf(s, " nr_zone_active_file %ld", &v) == 1)
		z->file += v;
	else if (strstr(s, "protection: ("))
		read_protection(z, s);
}

int zones_read(void)
{
	struct zfree *z = NULL;
	if (zi_fd < 0)
		zi_fd = open("/proc/zoneinfo", O_RDONLY | O_CLOEXEC);
	ssize_t n = slurp_fd(zi_fd, zibuf, sizeof zibuf - 1, 65536);
	if (n < 0)
		return -1;
	zibuf[n] = 0;
	nzf = 0;
	for (char *s = zibuf, *e; s && *s; s = e ? e + 1 : NULL) {
		int node;
		char name[16];
		e = strchr(s, '\n');
		if (e)
			*e = 0;
		if (sscanf(s, "Node %d, zone %15s", &node, name) == 2 && nzf < MAXZ) {
			z = &zf[nzf++];
			memset(z, 0, sizeof *z);
			z->node = node;
			strcpy(z->zone, name);
			z->zidx = zone_index(name);
		} else if (z) {
			read_zone_line(z, s);
		}
	}
	return 0;
}

/* In a new process: with a file and a buffer that are not shared with init. */
void zones_reopen(void)
{
	zi_fd = -1;
	zones_read();
}

/* Pages of page cache of a node, or (-1) of all. */
long file_pages(int node)
{
	long t = 0;
	if (zones_read())
		return -1;
	for (int i = 0; i < nzf; i++)
		if (node < 0 || zf[i].node == node)
			t += zf[i].file;
	return t;
}

/* Order-0 pages that a request for zones <= idx may still take (2, Normal: the kernel's; 3, Movable: a user's); node -1: every node. */
long allocatable(int node, int idx)
{
	long t = 0;
	if (zones_read())
		return -1;
	for (int i = 0; i < nzf; i++) {
		if ((node >= 0 && zf[i].node != node) || zf[i].zidx > idx || !zf[i].managed)
			continue;
		long m = zf[i].free - zf[i].min - zf[i].prot[idx];
		if (m > 0)
			t += m;
	}
	return t;
}
