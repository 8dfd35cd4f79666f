// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Becoming another program.
public enum Execution {
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
