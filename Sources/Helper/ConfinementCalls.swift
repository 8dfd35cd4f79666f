// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO

extension Confinement {
  /// The system calls that a helper makes. Nothing here opens a file, makes a socket, connects one, starts a program or looks
  /// into a process.
  static let calls: [SystemCallFilter.Rule] = given + paths + memory + threads + process

  /// What is done with descriptors that it was given.
  private static let given: [SystemCallFilter.Rule] = [
    .call("read"), .call("readv"), .call("pread64"), .call("preadv"), .call("preadv2"),
    .call("write"), .call("writev"), .call("pwrite64"), .call("pwritev"), .call("pwritev2"),
    .call("lseek"), .call("fsync"), .call("fdatasync"), .call("ftruncate"),
    .call("fstat"), .call("fstatfs"), .call("close"), .call("poll"), .call("ppoll"),
    .call("recvmsg"), .call("sendmsg"), .call("recvfrom"), .call("shutdown"), .call("getsockopt"),
    // Without an address: to whom it is connected already.
    .call("sendto", argument: 4, is: 0),
    // VFIO and iommufd share a type, which no other driver of the kernel has. Numbers alone: `_IO(';', n)`.
    .call("ioctl", argument: 1, mask: 0xffff_ff00, is: 0x3b00),
    .fcntl(F_DUPFD_CLOEXEC), .fcntl(F_GETFD), .fcntl(F_SETFD), .fcntl(F_GETFL), .fcntl(F_SETFL),
    .fcntl(addSeals), .fcntl(getSeals),
    // Whether two are the same open file; kernels before 6.10 are asked by kcmp, with KCMP_FILE.
    .fcntl(isSameFile), .call("kcmp", argument: 2, mask: 0xffff_ffff, is: 0),
    .call("eventfd2"), .call("memfd_create"),
  ]

  /// Questions about paths, which Landlock does not refuse. Opening is the filter's own affair (``SystemCallFilter``).
  private static let paths: [SystemCallFilter.Rule] = [
    .call("stat"), .call("lstat"), .call("newfstatat"), .call("statx"), .call("readlink"), .call("readlinkat"),
    .call("access"), .call("faccessat"), .call("faccessat2"), .call("getdents64"), .call("getcwd"),
  ]

  /// For a helper with metrics in a file: names of files, in the folder in which Landlock allows it. Making one is opening it; its
  /// mode comes with that, because a filter can't tell the file's descriptor from that of a device.
  static let files: [SystemCallFilter.Rule] = [
    .call("rename"), .call("renameat"), .call("renameat2"), .call("unlink"), .call("unlinkat"),
  ]

  /// For a helper with metrics at a socket: answering there, and taking the socket away where Landlock allows it.
  static let socket: [SystemCallFilter.Rule] = [.call("accept4"), .call("unlink"), .call("unlinkat")]

  /// Memory, none of which can be made a program.
  private static let memory: [SystemCallFilter.Rule] = [
    .call("mmap", argument: 2, mask: UInt64(PROT_EXEC), is: 0),
    .call("mprotect", argument: 2, mask: UInt64(PROT_EXEC), is: 0),
    .call("munmap"), .call("mremap"), .call("brk"), .call("madvise"), .call("mincore"),
    .call("mlock"), .call("mlock2"), .call("munlock"),
  ]

  /// Threads of this process. ``SystemCallFilter`` has clone3 fail, so that the C library uses clone.
  private static let threads: [SystemCallFilter.Rule] = [
    // With CLONE_VM, CLONE_SIGHAND and CLONE_THREAD, and no namespace.
    .call("clone", argument: 0, mask: 0x7e02_0000 | 0x0001_0900, is: 0x0001_0900),
    .call("exit"), .call("exit_group"), .call("set_robust_list"), .call("rseq"), .call("set_tid_address"),
    .call("futex"), .call("futex_waitv"), .call("membarrier"),
    .call("sched_yield"), .call("sched_getaffinity"), .call("sched_getparam"), .call("sched_getscheduler"),
    // Naming the calling thread, and memory.
    .call("prctl", argument: 0, mask: 0xffff_ffff, is: setThreadName),
    .call("prctl", argument: 0, mask: 0xffff_ffff, is: setMemoryName),
  ]

  /// Time, signals, and what a process asks about itself.
  private static let process: [SystemCallFilter.Rule] = [
    .call("clock_gettime"), .call("clock_getres"), .call("clock_nanosleep"), .call("nanosleep"), .call("gettimeofday"),
    .call("restart_syscall"), .call("getrandom"),
    .call("rt_sigprocmask"), .call("rt_sigtimedwait"), .call("rt_sigpending"), .call("sigaltstack"),
    // What abort(3) does, and the C library's threads with its own two signals; nothing about the one that tells of refusals.
    .call("rt_sigaction", argument: 0, mask: 0xffff_ffff, is: UInt64(SIGABRT)),
    .call("rt_sigaction", argument: 0, mask: 0xffff_fffe, is: 32),
    // How a program ends that finds something wrong with itself.
    .call("tgkill", argument: 0, mask: 0xffff_ffff, is: UInt64(getpid())),
    .call("getpid"), .call("gettid"), .call("getuid"), .call("geteuid"), .call("getgid"), .call("getegid"),
    .call("uname"), .call("sysinfo"), .call("getrusage"), .call("getrlimit"),
    // Asking, and not setting.
    .call("prlimit64", argument: 2, is: 0), .call("rt_sigaction", argument: 1, is: 0),
  ]

  // The corresponding C constants are F_ADD_SEALS, F_GET_SEALS, F_DUPFD_QUERY, PR_SET_NAME and PR_SET_VMA, which Swift does not see.
  private static let addSeals: Int32 = 1033
  private static let getSeals: Int32 = 1034
  private static let isSameFile: Int32 = 1027
  private static let setThreadName: UInt64 = 15
  private static let setMemoryName: UInt64 = 0x5356_4d41
}

extension SystemCallFilter.Rule {
  fileprivate static func fcntl(_ command: Int32) -> SystemCallFilter.Rule {
    .call("fcntl", argument: 1, mask: 0xffff_ffff, is: UInt64(command))
  }
}
