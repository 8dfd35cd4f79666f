// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Metrics

/// Where a command that goes on puts its metrics: docs/metrics.md.
struct MetricsOptions: ParsableArguments {
  @Option(
    name: .customLong("metrics"),
    help: ArgumentHelp("Keep metrics in this file, for the node exporter's textfile collector.", valueName: "FILE"))
  var file: String?

  @Option(
    name: .customLong("metrics-socket"),
    help: ArgumentHelp("Answer whoever connects to this Unix socket with metrics, in HTTP too.", valueName: "PATH"))
  var socket: String?

  @Option(
    name: .customLong("metrics-mode"),
    help: ArgumentHelp("The mode of --metrics-socket's PATH; to connect is to write to it.", valueName: "OCTAL"))
  var mode: String?

  func validate() throws {
    guard let mode else { return }
    if socket == nil { throw ValidationError("--metrics-mode is that of --metrics-socket's PATH") }
    if bits(mode) == nil { throw ValidationError("--metrics-mode takes up to three octal digits, such as 660") }
  }

  private func bits(_ text: String) -> UInt32? { UInt32(text, radix: 8).flatMap { $0 <= 0o777 ? $0 : nil } }

  /// Finds out early what could not be written later.
  /// - Parameter user: who is to write the file, and removes the socket; nil for this process as it is.
  func check(as user: ProcessUser? = nil) throws(CommandFailure) {
    do throws(SystemError) {
      if let file { try MetricsFile(path: file).check(as: user) }
      guard let socket else { return }
      let folder = Files.folder(of: socket)
      try Files.checkWriting(in: folder)
      if let user { try Files.checkWriting(in: folder, as: user) }
    } catch {
      throw .failed("metrics: \(error)")
    }
  }

  /// The places, with nothing in the file yet (``begin(_:)``). From now on somebody has to answer at the socket.
  /// - Returns: nil where no metrics are wanted.
  func places() throws(CommandFailure) -> MetricsPlaces? {
    let file = file.map { MetricsFile(path: $0) }
    if file != nil { MetricsFile.letOthersRead() }
    do throws(SystemError) {
      // The socket before the file: whose it is can be told, and where it is somebody else's, so is the file.
      guard let socket else { return file.map { MetricsPlaces(file: $0) } }
      let listener = try StreamListener(path: socket, mode: mode.flatMap(bits) ?? 0o600)
      return MetricsPlaces(file: file, listener: listener)
    } catch {
      throw .failed("metrics: \(error)")
    }
  }

  /// Begins the file: what can't be written is found out now, by whoever this process is now.
  func begin(_ places: MetricsPlaces) throws(CommandFailure) {
    do throws(SystemError) { try places.begin() } catch { throw .failed("metrics: \(error)") }
  }
}
