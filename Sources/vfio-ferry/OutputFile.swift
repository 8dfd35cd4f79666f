// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Transport

/// Where a stream is written: a file that gets its name only once it is complete, or something that is there already
/// (standard output, a pipe, a device), which is written in place.
final class OutputFile {
  let channel: DescriptorChannel
  /// Whether the stream goes to standard output, by whatever name: then reports go to standard error.
  let isStandardOutput: Bool
  private let path: String
  private let partial: String?
  /// What is in the partial file is whole, so it is not thrown away whatever happens to its name.
  private var isWhole = false

  /// - Parameters:
  ///   - path: a file that is to be, or to be replaced; something that is there already; - for standard output.
  ///   - mode: who may do what with a new file: device state is a guest's, and nobody else's.
  ///   - content: what messages call what is written.
  init(_ path: String, mode: UInt32 = 0o600, content: String = "device state") throws(CommandFailure) {
    let output = "/proc/self/fd/\(STDOUT_FILENO)"
    isStandardOutput = path == "-" || (Files.identity(path).map { $0 == Files.identity(output) } ?? false)
    if isStandardOutput, isatty(STDOUT_FILENO) == 1 {
      throw .misuse("\(content) is not for a terminal: redirect standard output, or name a file")
    }
    do throws(SystemError) {
      if isStandardOutput {
        self.path = path
        partial = nil
        channel = try DescriptorChannel(owning: Descriptor.inherited(STDOUT_FILENO, subject: "standard output"))
        return
      }
      if Files.exists(path), try !Files.isRegularFile(path) {
        self.path = path
        partial = nil
        channel = try DescriptorChannel(owning: Descriptor.open(path, O_WRONLY))
        return
      }
      // A link stays one: what it leads to is replaced.
      self.path = Files.resolved(path) ?? path
      let partial = "\(self.path).partial-\(getpid())"
      self.partial = partial
      channel = try DescriptorChannel(owning: Descriptor.open(partial, O_WRONLY | O_CREAT | O_EXCL, mode: mode))
    } catch {
      throw .failed("\(error)")
    }
  }

  /// Gives the complete file its name, and waits until the name is on the disk too.
  func keep() throws(CommandFailure) {
    isWhole = true
    guard let partial else { return }
    do throws(SystemError) {
      try Files.rename(partial, to: path)
      let folder = path.contains("/") ? String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) : "."
      try Descriptor.open(folder.isEmpty ? "/" : folder, O_RDONLY | O_DIRECTORY).synchronize()
    } catch {
      throw .failed("\(error); the whole stream is in \(Files.exists(partial) ? partial : path)")
    }
  }

  /// Writes a whole text to a file, or replaces what is there; on failure the file is as it was.
  static func write(_ text: String, to path: String) throws(CommandFailure) {
    let file = try OutputFile(path, mode: 0o644)
    // Nothing is left of it once it was kept.
    defer { file.discard() }
    try file.keep(text)
  }

  /// Writes a whole text, and gives the file its name.
  func keep(_ text: String) throws(CommandFailure) {
    let bytes = Array(text.utf8)
    do throws(ChannelError) {
      try channel.write(bytes.span, bytes.span.extracting(first: 0))
      try channel.finish()
    } catch {
      throw .failed("\(error)")
    }
    try keep()
  }

  /// Finds out, before much is done, that there is no such folder to write into.
  static func checkFolder(_ path: String) throws(CommandFailure) {
    do throws(SystemError) {
      _ = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
    } catch {
      throw .failed("\(error)")
    }
  }

  /// Removes what was written so far, unless it was kept.
  func discard() {
    if let partial, !isWhole { Files.remove(partial) }
  }
}
