// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Transport

/// Where a stream is written: a file that gets its name only once it is complete, or something that is there already
/// (standard output, a pipe, a device), which is written in place.
struct OutputFile {
  let channel: DescriptorChannel
  private let path: String
  private let partial: String?

  init(_ path: String) throws(CommandFailure) {
    self.path = path
    do throws(SystemError) {
      if path == "-" {
        partial = nil
        channel = try DescriptorChannel(owning: Descriptor.inherited(STDOUT_FILENO, subject: "standard output"))
        return
      }
      if Files.exists(path), try !Files.isRegularFile(path) {
        partial = nil
        channel = try DescriptorChannel(owning: Descriptor.open(path, O_WRONLY))
        return
      }
      let partial = "\(path).partial-\(getpid())"
      self.partial = partial
      channel = try DescriptorChannel(owning: Descriptor.open(partial, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600))
    } catch {
      throw .failed("\(error)")
    }
  }

  /// Gives the complete file its name.
  func keep() throws(CommandFailure) {
    guard let partial else { return }
    do throws(SystemError) {
      try Files.rename(partial, to: path)
    } catch {
      throw .failed("\(error); the whole stream is in \(partial)")
    }
  }

  /// Removes what was written so far.
  func discard() {
    if let partial { Files.remove(partial) }
  }
}

/// The channel of a session that has no stream.
final class NoChannel: Channel {
  let name = "no channel"
  let isTwoWay = false
  func write(_ header: Span<UInt8>, _ payload: Span<UInt8>) throws(ChannelError) { throw failure("writing") }
  func read(into buffer: inout MutableSpan<UInt8>) throws(ChannelError) -> Int { throw failure("reading") }
  func finish() throws(ChannelError) {}
  func cancel() {}

  private func failure(_ operation: String) -> ChannelError {
    ChannelError(operation, channel: name, errno: .notSupported)
  }
}
