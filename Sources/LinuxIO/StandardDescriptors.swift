// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Standard input, output and error.
public enum StandardDescriptors {
  /// Opens `/dev/null` on those that this program was started without. Otherwise the next file that it opens would get
  /// such a number, and messages would be written into it. To be called before anything is opened.
  public static func fill() {
    for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 {
      // Open takes the lowest free number, which is this one.
      unsafe _ = open("/dev/null", O_RDWR)
    }
  }
}
