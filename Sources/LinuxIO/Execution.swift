// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Becoming another program, and having another one run.
public enum Execution {
  /// Runs a command to its end. It inherits every descriptor that is not close-on-exec, and the environment.
  /// - Parameter command: the program, looked for in PATH, and its arguments; at least the program.
  /// - Returns: its exit status; 128 and the signal's number where a signal ended it.
  public static func run(_ command: [String]) throws(SystemError) -> Int32 {
    precondition(!command.isEmpty)
    var arguments: [UnsafeMutablePointer<CChar>?] = unsafe command.map { unsafe strdup($0) }
    unsafe arguments.append(nil)
    defer { for index in unsafe arguments.indices { unsafe free(arguments[index]) } }
    var pid: pid_t = 0
    let error = unsafe posix_spawnp(&pid, command[0], nil, nil, arguments, environ)
    if error != 0 { throw SystemError("running", command[0], errno: error) }
    var status: Int32 = 0
    while true {
      let result = unsafe waitpid(pid, &status, 0)
      let error = errno
      if result == pid { break }
      if error != EINTR { throw SystemError("waiting for", command[0], errno: error) }
    }
    let signal = status & 0x7f
    return signal == 0 ? status >> 8 & 0xff : 128 + signal
  }

  /// Replaces this program by a command, which inherits every descriptor that is not close-on-exec, and the
  /// environment. No signal is blocked in it. Returns only to throw.
  /// - Parameter command: the program, looked for in PATH, and its arguments; at least the program.
  public static func replace(with command: [String]) throws(SystemError) {
    precondition(!command.isEmpty)
    var none = sigset_t()
    var before = sigset_t()
    unsafe sigemptyset(&none)
    unsafe pthread_sigmask(SIG_SETMASK, &none, &before)
    signal(SIGPIPE, SIG_DFL)
    var arguments: [UnsafeMutablePointer<CChar>?] = unsafe command.map { unsafe strdup($0) }
    unsafe arguments.append(nil)
    unsafe execvp(command[0], &arguments)
    let error = errno
    for index in unsafe arguments.indices { unsafe free(arguments[index]) }
    unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    throw SystemError("running", command[0], errno: error)
  }

  /// A variable of the environment; nil where it is not set.
  public static func variable(_ name: String) -> String? { unsafe getenv(name).map { unsafe String(cString: $0) } }

  /// Sets a variable of the environment that a command will inherit; nil removes it.
  public static func setVariable(_ name: String, _ value: String?) {
    if let value { unsafe setenv(name, value, 1) } else { unsafe unsetenv(name) }
  }
}
