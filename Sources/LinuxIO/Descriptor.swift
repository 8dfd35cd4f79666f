// SPDX-License-Identifier: Apache-2.0
internal import CConfinement
internal import CVFIO
internal import Glibc

/// An open file descriptor, and the only thing in this package that closes one.
///
/// It closes when its owner lets it go. There is no way to copy it but ``duplicate()``.
public struct Descriptor: ~Copyable, Sendable {
  /// The number, for the call that needs it; ownership stays here.
  public private(set) var rawValue: Int32
  /// What messages call it: a path, or what the descriptor stands for.
  public let subject: String

  /// Takes ownership of a descriptor that is open.
  public init(owning rawValue: Int32, subject: String) {
    self.rawValue = rawValue
    self.subject = subject
  }

  deinit { if rawValue >= 0 { close(rawValue) } }

  /// Gives the descriptor up: the caller owns the number from now on.
  public consuming func release() -> Int32 {
    let number = rawValue
    rawValue = -1
    return number
  }

  /// Opens a path, close-on-exec.
  /// - Parameters:
  ///   - flags: of open(2); `O_CLOEXEC` is added.
  ///   - mode: for a file that is created.
  public static func open(
    _ path: String, _ flags: Int32, mode: UInt32 = 0o644
  ) throws(SystemError) -> Descriptor {
    while true {
      let number = unsafe Glibc.open(path, flags | O_CLOEXEC, mode)
      let error = errno
      if number >= 0 { return Descriptor(owning: number, subject: path) }
      if error != EINTR { throw SystemError("opening", path, errno: error) }
    }
  }

  /// A duplicate, close-on-exec, of a descriptor that this process was started with; the caller owns it, and the
  /// original stays open.
  public static func inherited(_ number: Int32, subject: String) throws(SystemError) -> Descriptor {
    let duplicate = fcntl(number, F_DUPFD_CLOEXEC, 0)
    let error = errno
    if duplicate < 0 { throw SystemError("using descriptor \(number) for", subject, errno: error) }
    return Descriptor(owning: duplicate, subject: subject)
  }

  /// Closes everything that this process has open, but standard input, output and error and these. Whoever owns one of the
  /// others is left with a number. To be called before anything but these is used.
  public static func closeAll(but kept: [Int32]) throws(SystemError) {
    var first: UInt32 = 3
    for number in (kept.filter { $0 >= 3 }.map(UInt32.init).sorted() + [.max]) {
      // Two may be the same.
      if number > first {
        let last = number == .max ? number : number - 1
        let result = vf_close_range(first, last)
        let error = errno
        if result != 0 { throw SystemError("closing", "what is open from descriptor \(first) on", errno: error) }
      }
      first = max(first, number &+ 1)
    }
  }

  /// A second descriptor for the same open file, close-on-exec; the caller owns it.
  public func duplicate() throws(SystemError) -> Descriptor {
    let number = fcntl(rawValue, F_DUPFD_CLOEXEC, 0)
    let error = errno
    if number < 0 { throw SystemError("duplicating", subject, errno: error) }
    return Descriptor(owning: number, subject: subject)
  }

  /// Whether another descriptor is one for the same open file, as ``duplicate()`` makes them, also by way of another
  /// process.
  /// - Throws: where the kernel does not tell: before 6.10 that takes `CONFIG_KCMP`.
  public func isSameFile(as other: borrowing Descriptor) throws(SystemError) -> Bool {
    let result = vf_is_same_file(rawValue, other.rawValue)
    let error = errno
    if result < 0 { throw SystemError("comparing", subject, errno: error) }
    return result == 1
  }

  /// Sets or clears close-on-exec: a descriptor that is handed to a command must not have it.
  public func setCloseOnExec(_ on: Bool) throws(SystemError) {
    let result = fcntl(rawValue, F_SETFD, on ? FD_CLOEXEC : 0)
    let error = errno
    if result < 0 { throw SystemError("changing the flags of", subject, errno: error) }
  }

  /// Has reading and writing fail with EAGAIN where they would wait, for whoever has the open file.
  public func setNonBlocking() throws(SystemError) {
    let flags = fcntl(rawValue, F_GETFL)
    let result = flags < 0 ? flags : fcntl(rawValue, F_SETFL, flags | O_NONBLOCK)
    let error = errno
    if result < 0 { throw SystemError("changing the flags of", subject, errno: error) }
  }

  /// The one place where an ioctl is issued.
  /// - Parameters:
  ///   - request: the request number.
  ///   - operation: what to call it in an error, as in "binding".
  ///   - argument: the request's structure; the kernel reads it and may write it.
  ///   - retryOnInterrupt: whether EINTR issues it again. State changes must not: after one that was interrupted the
  ///     device's state has to be read first.
  /// - Returns: what ioctl(2) returned, never negative.
  @discardableResult
  public func ioctl<Argument: BitwiseCopyable>(
    _ request: Int, _ operation: String, _ argument: inout Argument, retryOnInterrupt: Bool = true
  ) throws(SystemError) -> Int32 {
    while true {
      let result = unsafe withUnsafeMutablePointer(to: &argument) { pointer in
        unsafe Glibc.ioctl(rawValue, UInt(request), UnsafeMutableRawPointer(pointer))
      }
      let error = errno
      if result >= 0 { return result }
      if error != EINTR || !retryOnInterrupt { throw SystemError(operation, subject, errno: error) }
    }
  }

  /// An ioctl that takes a structure with more behind it, as bytes.
  @discardableResult
  public func ioctl(
    _ request: Int, _ operation: String, bytes: inout MutableSpan<UInt8>
  ) throws(SystemError) -> Int32 {
    while true {
      let result = unsafe bytes.withUnsafeMutableBytes { bytes in
        unsafe Glibc.ioctl(rawValue, UInt(request), bytes.baseAddress!)
      }
      let error = errno
      if result >= 0 { return result }
      if error != EINTR { throw SystemError(operation, subject, errno: error) }
    }
  }

  /// An ioctl that takes a text, such as a device's name.
  @discardableResult
  public func ioctl(_ request: Int, _ operation: String, text: String) throws(SystemError) -> Int32 {
    while true {
      var bytes = Array(text.utf8CString)
      let result = unsafe bytes.withUnsafeMutableBytes { bytes in
        unsafe Glibc.ioctl(rawValue, UInt(request), bytes.baseAddress!)
      }
      let error = errno
      if result >= 0 { return result }
      if error != EINTR { throw SystemError(operation, subject, errno: error) }
    }
  }

  /// An ioctl that takes a plain number, or none.
  @discardableResult
  public func ioctl(
    _ request: Int, _ operation: String, value: Int32 = 0, retryOnInterrupt: Bool = true
  ) throws(SystemError) -> Int32 {
    while true {
      let result = Glibc.ioctl(rawValue, UInt(request), value)
      let error = errno
      if result >= 0 { return result }
      if error != EINTR || !retryOnInterrupt { throw SystemError(operation, subject, errno: error) }
    }
  }

  /// Reads at most the buffer's size, again after EINTR.
  /// - Returns: how many bytes; 0 at the end.
  public func read(into buffer: inout MutableSpan<UInt8>) throws(SystemError) -> Int {
    while true {
      let result = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe Glibc.read(rawValue, bytes.baseAddress, bytes.count)
      }
      let error = errno
      if result >= 0 { return result }
      if error != EINTR { throw SystemError("reading", subject, errno: error) }
    }
  }

  /// Writes what the kernel takes at once, again after EINTR.
  /// - Returns: how many bytes it took.
  public func write(_ bytes: Span<UInt8>) throws(SystemError) -> Int {
    try write(bytes, Span())
  }

  /// Writes two pieces with one call, as far as the kernel takes them, again after EINTR.
  /// - Parameter waits: whether the call may wait until the kernel takes all; without, EAGAIN is thrown when it takes
  ///   nothing now, whatever mode the descriptor is in, and EOPNOTSUPP where the kernel knows no such way to write it.
  /// - Returns: how many bytes of both together it took.
  public func write(_ first: Span<UInt8>, _ second: Span<UInt8>, waits: Bool = true) throws(SystemError) -> Int {
    while true {
      let result = unsafe first.withUnsafeBytes { first in
        unsafe second.withUnsafeBytes { second in
          let pieces = unsafe [
            iovec(iov_base: UnsafeMutableRawPointer(mutating: first.baseAddress), iov_len: first.count),
            iovec(iov_base: UnsafeMutableRawPointer(mutating: second.baseAddress), iov_len: second.count),
          ]
          return unsafe waits ? writev(rawValue, pieces, 2) : vf_writev_nowait(rawValue, pieces, 2)
        }
      }
      let error = errno
      if result >= 0 { return result }
      if error != EINTR { throw SystemError("writing", subject, errno: error) }
    }
  }

  /// Reads at an offset, leaving the file's position alone.
  /// - Returns: how many bytes; 0 at the end.
  public func read(into buffer: inout MutableSpan<UInt8>, at offset: Int) throws(SystemError) -> Int {
    while true {
      let result = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe pread(rawValue, bytes.baseAddress, bytes.count, offset)
      }
      let error = errno
      if result >= 0 { return result }
      if error != EINTR { throw SystemError("reading", subject, errno: error) }
    }
  }

  /// Fills the buffer from an offset on, leaving the file's position alone.
  /// - Returns: how many bytes; fewer than the buffer's only where the file ends.
  public func readAll(into buffer: inout MutableSpan<UInt8>, at offset: Int) throws(SystemError) -> Int {
    var taken = 0
    while taken < buffer.count {
      let result = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe pread(rawValue, bytes.baseAddress?.advanced(by: taken), bytes.count - taken, offset + taken)
      }
      let error = errno
      if result == 0 { break }
      if result > 0 { taken += result } else if error != EINTR { throw SystemError("reading", subject, errno: error) }
    }
    return taken
  }

  /// Writes all of the bytes at an offset, leaving the file's position alone.
  public func writeAll(_ bytes: Span<UInt8>, at offset: Int) throws(SystemError) {
    var taken = 0
    while taken < bytes.count {
      let result = unsafe bytes.withUnsafeBytes { bytes in
        unsafe pwrite(rawValue, bytes.baseAddress?.advanced(by: taken), bytes.count - taken, offset + taken)
      }
      let error = errno
      if result > 0 {
        taken += result
      } else if result == 0 || error != EINTR {
        throw SystemError("writing", subject, errno: result == 0 ? ENOSPC : error)
      }
    }
  }

  /// A file without a name, on disk where that is possible: it is gone when it is closed.
  public static func temporary(folder: String = "/var/tmp") throws(SystemError) -> Descriptor {
    let number = unsafe vf_open_temporary(folder)
    let error = errno
    if number < 0 { throw SystemError("making a temporary file in", folder, errno: error) }
    return Descriptor(owning: number, subject: "a temporary file in \(folder)")
  }

  /// A file in memory without a name, close-on-exec. The corresponding system call is memfd_create(2).
  public static func inMemory(name: String) throws(SystemError) -> Descriptor {
    let number = unsafe vf_memfd_create(name)
    let error = errno
    if number < 0 { throw SystemError("making", "a file in memory", errno: error) }
    return Descriptor(owning: number, subject: name)
  }

  /// A file in memory that holds these bytes and can't be changed any more, close-on-exec; the caller owns it.
  public static func sealed(_ bytes: Span<UInt8>, name: String) throws(SystemError) -> Descriptor {
    let number = unsafe vf_memfd_create_sealable(name)
    let madeError = errno
    if number < 0 { throw SystemError("making", "a file in memory", errno: madeError) }
    let file = Descriptor(owning: number, subject: name)
    try file.writeAll(bytes, at: 0)
    let result = vf_seal_all(file.rawValue)
    let sealError = errno
    if result != 0 { throw SystemError("sealing", name, errno: sealError) }
    return file
  }

  /// Whether it is a socket, so that both ends can send.
  public func isSocket() throws(SystemError) -> Bool {
    var status = stat()
    let result = unsafe fstat(rawValue, &status)
    let error = errno
    if result != 0 { throw SystemError("looking at", subject, errno: error) }
    return status.st_mode & S_IFMT == S_IFSOCK
  }

  /// Whether it is a regular file, which never makes a caller wait.
  public func isRegularFile() throws(SystemError) -> Bool {
    var status = stat()
    let result = unsafe fstat(rawValue, &status)
    let error = errno
    if result < 0 { throw SystemError("looking at", subject, errno: error) }
    return status.st_mode & S_IFMT == S_IFREG
  }

  /// Takes the open file's lock, which ends when the last descriptor of it is closed. The corresponding call is flock(2).
  /// - Parameter waits: whether to wait while somebody else has it.
  /// - Returns: whether it is this one's; false only without waiting.
  public func lock(waits: Bool) throws(SystemError) -> Bool {
    while true {
      let result = flock(rawValue, waits ? LOCK_EX : LOCK_EX | LOCK_NB)
      let error = errno
      if result == 0 { return true }
      if error == EWOULDBLOCK, !waits { return false }
      if error != EINTR { throw SystemError("locking", subject, errno: error) }
    }
  }

  /// Waits until everything written is on the disk. A descriptor that has no disk (a pipe, a socket) has nothing to
  /// wait for.
  public func synchronize() throws(SystemError) {
    let result = fsync(rawValue)
    let error = errno
    if result < 0, error != EINVAL, error != EROFS { throw SystemError("syncing", subject, errno: error) }
  }

  /// The position of a file that has one; nil where the descriptor is a stream.
  public var position: Int? {
    let result = lseek(rawValue, 0, SEEK_CUR)
    return result < 0 ? nil : result
  }

  /// Moves the position of a file that has one.
  /// - Returns: the new position; nil where the descriptor is a stream.
  @discardableResult
  public func seek(to offset: Int) -> Int? {
    let result = lseek(rawValue, offset, SEEK_SET)
    return result < 0 ? nil : result
  }
}
