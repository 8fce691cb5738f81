#!/bin/sh
# Collects what describes this machine's memory, for an import into hugepool: a tar of texts of /proc and /sys.
#
#   sh collect.sh                      writes machine-DATE.tar.gz into this folder
#   sh collect.sh -o FILE              writes FILE, or with - the standard output
#   curl -s http://SERVICE/collect.sh | sh | curl -X POST -T - 'http://SERVICE/v1/hosts/import?name=NAME'
#
# It needs a POSIX shell, cat and date, and gzip when the tar is to be packed. It changes nothing. An ordinary user may
# run it; only root can read /proc/pagetypeinfo, without which the import assumes the types of pageblocks.
# Names of hosts and words of the command line that are not about memory are left out, unless -a is given.
set -u
LC_ALL=C
export LC_ALL

usage() {
    echo "usage: collect.sh [-a] [-o FILE] [-r ROOT]" >&2
    echo "  -a  keep the whole command line and the build host's name in /proc/version" >&2
    echo "  -o  where the archive goes; - is the standard output" >&2
    echo "  -r  a folder that holds proc and sys" >&2
    exit 2
}

all='' out='' root=''
while getopts ao:r: option; do
    case $option in
        a) all=yes ;;
        o) out=$OPTARG ;;
        r) root=${OPTARG%/} ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || usage

now=$(date +%s)
unreadable=''
left_out=''
count=0

# -- the archive ---------------------------------------------------------------------------------------------

# NULs as printf takes them: nul_N is N of them.
i=0 text=''
while [ $i -le 180 ]; do
    eval "nul_$i=\$text"
    text="$text\\000"
    i=$((i + 1))
done

# The characters that names have, in the order of their codes, from - on.
ascii='-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefghijklmnopqrstuvwxyz'

# The sum of the codes of a text's characters, into $sum.
sum_of() {
    sum=0 rest=$1
    while [ -n "$rest" ]; do
        tail=${rest#?}
        before=${ascii%%"${rest%"$tail"}"*}
        sum=$((sum + ${#before} + 45))
        rest=$tail
    done
}

# The same of a number's digits, written in base 8 with 11 of them.
sum_octal() {
    sum=528 rest=$1
    while [ "$rest" -gt 0 ]; do
        sum=$((sum + rest % 8))
        rest=$((rest / 8))
    done
}

sum_octal "$now"
# Of what is the same in all headers: mode 0000644, user and group 0000000, mtime, "ustar" and "00", the checksum's blanks.
same=$((14 + 7 * 48 + 2 * 7 * 48 + sum + 559 + 2 * 48 + 8 * 32))
folder='' folder_sum=0

# A member's header: name, size, kind (0 a file, 2 a link), target.
header() {
    if [ "${1%/*}" != "$folder" ]; then
        folder=${1%/*}
        sum_of "$folder/"
        folder_sum=$sum
    fi
    sum_of "${1##*/}"
    total=$((same + folder_sum + sum + 48 + $3))
    sum_octal "$2"
    total=$((total + sum))
    sum_of "$4"
    eval "after_name=\$nul_$((100 - ${#1})) after_target=\$nul_$((100 - ${#4}))"
    printf "%s${after_name}0000644\\0000000000\\0000000000\\000%011o\\000%011o\\000%06o\\000 $3%s${after_target}ustar\\00000${nul_180}${nul_67}" \
        "$1" "$2" "$now" $((total + sum)) "$4"
    count=$((count + 1))
}

# A file: path, content.
file() {
    header "$1" ${#2} 0 ''
    printf '%s' "$2"
    padding=$(((512 - ${#2} % 512) % 512))
    [ $padding -eq 0 ] || printf "%${padding}s" ''
}

# -- what is read --------------------------------------------------------------------------------------------

missing() {
    [ ! -e "$root/$1" ] || unreadable="$unreadable /$1"
}

# A file of several lines.
long() {
    if [ -r "$root/$1" ] && text=$(cat "$root/$1" 2>/dev/null && echo .); then
        file "$1" "${text%.}"
    else
        missing "$1"
    fi
}

# A file of one line. There may be many thousands, so the shell itself reads them; it does so byte by byte, and where a
# file of /proc/sys ends with the first byte, cat does it.
short() {
    if [ -r "$root/$1" ] && { IFS= read -r text <"$root/$1"; } 2>/dev/null; then
        file "$1" "$text
"
    else
        long "$1"
    fi
}

# Words of the command line that an import reads; what else is there may be a secret.
memory_words() {
    kept=''
    set -f
    for word in $1; do
        case $word in
            BOOT_IMAGE=*) word="BOOT_IMAGE=/${word##*[/=]}" ;;
            hugepages=* | hugepagesz=* | default_hugepagesz=* | hugetlb* | hugepage_alloc_threads=*) ;;
            kernelcore=* | movablecore=* | movable_node | cma=* | mem=* | memmap=* | crashkernel=*) ;;
            numa=* | numa_* | memhp_* | memory_hotplug.* | transparent_hugepage=*) ;;
            *)
                left_out=yes
                continue
                ;;
        esac
        kept="$kept $word"
    done
    set +f
    kept=${kept# }
}

collect() {
    # The slow part first: there may be many thousands of memory blocks, and they hardly change.
    memory=sys/devices/system/memory node=sys/devices/system/node
    for name in block_size_bytes auto_online_blocks; do
        short $memory/$name
    done
    for path in "$root/$memory"/memory[0-9]*; do
        [ -d "$path" ] || continue
        block=${path##*/}
        short "$memory/$block/state"
        short "$memory/$block/valid_zones"
    done
    for name in online possible has_memory has_normal_memory has_cpu; do
        short $node/$name
    done
    for path in "$root/$node"/node[0-9]*; do
        [ -d "$path" ] || continue
        here=$node/${path##*/}
        for link in "$path"/memory[0-9]*; do
            [ -e "$link" ] || [ -h "$link" ] || continue
            header "$here/${link##*/}" 0 2 "../../memory/${link##*/}"
        done
        for name in cpulist distance; do
            short "$here/$name"
        done
    done
    for name in osrelease arch; do
        short proc/sys/kernel/$name
    done
    for name in min_free_kbytes lowmem_reserve_ratio watermark_scale_factor overcommit_ratio \
        nr_overcommit_hugepages hugetlb_optimize_vmemmap; do
        short proc/sys/vm/$name
    done
    if [ -r "$root/proc/version" ] && IFS= read -r text <"$root/proc/version"; then
        [ -n "$all" ] || case $text in
            *\(*@*\)*) text="${text%%\(*}${text#*\) }" ;;
        esac
        file proc/version "$text
"
    fi
    if [ -r "$root/proc/cmdline" ] && IFS= read -r text <"$root/proc/cmdline"; then
        kept=$text
        [ -n "$all" ] || memory_words "$text"
        file proc/cmdline "$kept
"
    fi
    # All that counts the same pages last, and close together.
    for path in "$root/$node"/node[0-9]*; do
        [ -d "$path" ] || continue
        here=$node/${path##*/}
        for name in meminfo vmstat numastat; do
            long "$here/$name"
        done
        pools "$here/hugepages"
    done
    pools sys/kernel/mm/hugepages
    for name in nr_hugepages nr_hugepages_mempolicy; do
        short proc/sys/vm/$name
    done
    for name in meminfo vmstat zoneinfo buddyinfo pagetypeinfo; do
        long proc/$name
    done
    printf "$nul_180$nul_180$nul_152$nul_180$nul_180$nul_152"
}

pools() {
    for size in "$root/$1"/hugepages-*kB; do
        [ -d "$size" ] || continue
        for path in "$size"/*; do
            [ "${path##*/}" = demote ] || short "$1/${size##*/}/${path##*/}"
        done
    done
}

tell() {
    [ -z "$unreadable" ] || echo "not readable for this user, and left out:$unreadable" >&2
    [ -z "$left_out" ] || echo "words of the command line that are not about memory were left out; -a keeps them" >&2
    echo "$count files" >&2
}

# -- where it goes -------------------------------------------------------------------------------------------

if [ ! -e "$root/proc/meminfo" ]; then
    echo "there is no $root/proc/meminfo" >&2
    exit 1
fi
pack="cat" end=tar
if command -v gzip >/dev/null 2>&1; then
    pack='gzip -c' end=tar.gz
fi
if [ -z "$out" ]; then
    out=-
    [ ! -t 1 ] || out=machine-$(date +%Y%m%d-%H%M%S).$end
fi
case $out in
    *.tar) pack=cat ;;
esac
if [ "$out" = - ]; then
    { collect; tell; } | $pack
else
    { collect; tell; } | $pack >"$out" && echo "$out" >&2
fi
