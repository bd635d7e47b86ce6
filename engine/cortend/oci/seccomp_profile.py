"""The default seccomp profile, and profiles that users bring, resolved to what the OCI runtime takes.

Owns which system calls a container may make. It decides by the container's capabilities and the host's architecture,
so that the runtime sees a plain OCI `linux.seccomp` section. Compiling it is the runtime's work.

The default allows what Docker's default allows, less io_uring (Docker dropped it in 25.0) and `AF_VSOCK` sockets;
everything not named fails with EPERM, and clone3 with ENOSYS, so that libc falls back to clone, whose flags can be
looked at.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from typing import Any

import msgspec
from corten_api.errors import InvalidArgument

Section = dict[str, Any]

_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl
fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init
inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
io_submit ioctl lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek lremovexattr lseek
lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2
pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat
rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statx
symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat
utimensat_time64 utimes vmsplice write writev
"""
_EVENTS = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
eventfd2 _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4 timerfd_create
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""
_MEMORY = """
brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease
remap_file_pages
"""
_PROCESSES = """
capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getegid getegid32 geteuid
geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32
getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self pause pidfd_open pidfd_send_signal prctl prlimit64 process_vm_readv
process_vm_writev ptrace restart_syscall rseq sched_get_priority_max sched_get_priority_min sched_getaffinity
sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address
setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid
setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sysinfo
tgkill times tkill ugetrlimit uname vfork wait4 waitid waitpid
"""
_SIGNALS = """
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn
"""
_TIME = """
adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
"""
_LOCKS = "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getrandom"
_SOCKETS = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
"""
_IPC = """
ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
"""
ALWAYS: tuple[str, ...] = tuple(
    sorted(" ".join((_FILES, _EVENTS, _MEMORY, _PROCESSES, _SIGNALS, _TIME, _LOCKS, _SOCKETS, _IPC)).split())
)

BY_CAPABILITY: dict[str, tuple[str, ...]] = {
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_SYS_ADMIN": (
        *("bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie"),
        *("mount", "mount_setattr", "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd"),
        *("setdomainname", "sethostname", "setns", "syslog", "umount", "umount2", "unshare"),
    ),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_CHROOT": ("chroot",),
    "CAP_SYS_MODULE": ("delete_module", "finit_module", "init_module"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYS_TIME": ("clock_settime", "clock_settime64", "settimeofday", "stime"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "CAP_SYSLOG": ("syslog",),
    "CAP_BPF": ("bpf",),
    "CAP_PERFMON": ("perf_event_open",),
}

BY_ARCHITECTURE: dict[str, tuple[str, ...]] = {
    "amd64": ("arch_prctl", "modify_ldt"),
    "386": ("modify_ldt",),
    "arm64": ("arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"),
    "arm": ("arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"),
    "ppc64le": ("swapcontext", "sync_file_range2"),
    "s390x": ("s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"),
    "riscv64": ("riscv_flush_icache",),
}

# GOARCH -> the architectures whose programs that kernel runs.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "amd64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "386": ("SCMP_ARCH_X86",),
    "arm64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "arm": ("SCMP_ARCH_ARM",),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
}

AF_VSOCK = 40
# personality(2): PER_LINUX, PER_LINUX32, UNAME26 with each, and the query.
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
NAMESPACE_FLAGS = 0x7E020000
# On s390 clone takes its flags second (clone(2), "C library/kernel differences").
_CLONE_FLAGS_ARGUMENT = {"s390x": 1}

_cached_defaults: dict[tuple[frozenset[str], str], Section] = {}


def default(capabilities: Collection[str], architecture: str) -> Section:
    """The default profile for a process that may hold `capabilities` (CAP_... names). Shared: do not change it."""
    key = (frozenset(capabilities), architecture)
    if key not in _cached_defaults:
        _cached_defaults[key] = _build_default(key[0], architecture)
    return _cached_defaults[key]


def _build_default(capabilities: frozenset[str], architecture: str) -> Section:
    granted = {call for name in capabilities for call in BY_CAPABILITY.get(name, ())}
    names = sorted({*ALWAYS, *BY_ARCHITECTURE.get(architecture, ()), *granted})
    rules: list[Section] = [
        {"names": names, "action": "SCMP_ACT_ALLOW"},
        _allow_if("socket", 0, "SCMP_CMP_NE", AF_VSOCK),
        *(_allow_if("personality", 0, "SCMP_CMP_EQ", value) for value in PERSONALITIES),
    ]
    if "CAP_SYS_ADMIN" not in capabilities:
        flags_argument = _CLONE_FLAGS_ARGUMENT.get(architecture, 0)
        rules.append(_allow_if("clone", flags_argument, "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, 0))
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": list(ARCHITECTURES.get(architecture, ())),
        "syscalls": rules,
    }


def _allow_if(name: str, index: int, operator: str, value: int, value_two: int = 0) -> Section:
    argument = {"index": index, "value": value, "valueTwo": value_two, "op": operator}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}


class _Argument(msgspec.Struct, rename="camel"):
    index: int
    value: int
    op: str
    value_two: int = 0


class _Condition(msgspec.Struct, rename="camel"):
    caps: list[str] = []
    arches: list[str] = []
    min_kernel: str = ""


class _Rule(msgspec.Struct, rename="camel"):
    action: str
    names: list[str] = []
    name: str = ""
    args: list[_Argument] | None = None
    errno_ret: int | None = None
    includes: _Condition | None = None
    excludes: _Condition | None = None


class _ArchitectureEntry(msgspec.Struct, rename="camel"):
    architecture: str
    sub_architectures: list[str] | None = None


class _Profile(msgspec.Struct, rename="camel"):
    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] | None = None
    arch_map: list[_ArchitectureEntry] | None = None
    flags: list[str] | None = None
    syscalls: list[_Rule] | None = None


_decoder = msgspec.json.Decoder(_Profile)


def from_user(text: str, *, capabilities: Collection[str], architecture: str, kernel: tuple[int, int]) -> Section:
    """The OCI section of a profile in Docker's JSON form (`includes`, `excludes`, `archMap`) or in the OCI's own.

    Raises InvalidArgument where it is neither; names of unknown system calls are the runtime's to judge.
    """
    try:
        profile = _decoder.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidArgument("seccomp profile", "", f"not a seccomp profile: {error}") from error
    native = ARCHITECTURES.get(architecture, ())
    architectures = list(profile.architectures or ())
    for entry in profile.arch_map or ():
        if entry.architecture in native[:1]:
            architectures = [entry.architecture, *(entry.sub_architectures or ())]
    facts = _Facts(frozenset(capabilities), architecture, kernel)
    section: Section = {
        "defaultAction": profile.default_action,
        "architectures": architectures or list(native),
        "syscalls": [_plain_rule(rule) for rule in profile.syscalls or () if facts.apply(rule)],
    }
    if profile.default_errno_ret is not None:
        section["defaultErrnoRet"] = profile.default_errno_ret
    if profile.flags:
        section["flags"] = profile.flags
    return section


class _Facts(msgspec.Struct, frozen=True):
    """What the conditions of a profile's rules are held against."""

    capabilities: frozenset[str]
    architecture: str
    kernel: tuple[int, int]

    def apply(self, rule: _Rule) -> bool:
        if rule.includes is not None and not self._all_hold(rule.includes):
            return False
        return rule.excludes is None or not self._any_holds(rule.excludes)

    def _all_hold(self, condition: _Condition) -> bool:
        if not set(condition.caps) <= self.capabilities:
            return False
        if condition.arches and self.architecture not in condition.arches:
            return False
        return not condition.min_kernel or self.kernel >= _kernel_version(condition.min_kernel)

    def _any_holds(self, condition: _Condition) -> bool:
        if self.capabilities & set(condition.caps) or self.architecture in condition.arches:
            return True
        return bool(condition.min_kernel) and self.kernel >= _kernel_version(condition.min_kernel)


def _kernel_version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise InvalidArgument("seccomp profile", text, 'minKernel is "major.minor"')
    return int(major), int(minor)


def _plain_rule(rule: _Rule) -> Section:
    plain: Section = {"names": rule.names or [rule.name], "action": rule.action}
    if rule.errno_ret is not None:
        plain["errnoRet"] = rule.errno_ret
    if rule.args:
        plain["args"] = [{"index": a.index, "value": a.value, "valueTwo": a.value_two, "op": a.op} for a in rule.args]
    return plain
