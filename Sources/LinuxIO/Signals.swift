// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// Signals taken as messages, by a thread that waits for them: no handler runs anywhere.
public enum Signals {
  /// Blocks these signals in the calling thread and in those it starts later, and hands each one to `handler` on a
  /// thread of its own, for as long as the program runs. Signals that are ignored, as nohup(1) arranges it, stay so.
  /// Call it before other threads start.
  public static func take(_ signals: [Int32], _ handler: @escaping @Sendable (Int32) -> Void) throws(SystemError) {
    var mask = sigset_t()
    unsafe sigemptyset(&mask)
    for signal in signals where vf_signal_is_ignored(signal) == 0 { unsafe sigaddset(&mask, signal) }
    unsafe pthread_sigmask(SIG_BLOCK, &mask, nil)
    let taken = mask
    _ = try BlockingThread(name: "signals") {
      var waited = taken
      var signal: CInt = 0
      while unsafe sigwait(&waited, &signal) == 0 { handler(signal) }
    }
  }

  /// Makes writing to a closed pipe an error of the call instead of the end of the program.
  public static func ignoreBrokenPipes() {
    signal(SIGPIPE, SIG_IGN)
  }
}
