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

  /// The folders that they are in.
  var folders: [String] { [file, socket].compactMap { $0 }.map { MetricsFile(path: $0).folder } }

  /// The places, made ready: what can't be written is found out now.
  /// - Returns: nil where no metrics are wanted.
  func places() throws(CommandFailure) -> MetricsPlaces? {
    let file = file.map { MetricsFile(path: $0) }
    do throws(SystemError) {
      // No page yet, and no metrics is a page, too.
      try file?.write("")
      guard let socket else { return file.map { MetricsPlaces(file: $0) } }
      return MetricsPlaces(file: file, listener: try StreamListener(path: socket, mode: mode.flatMap(bits) ?? 0o600))
    } catch {
      throw .failed("metrics: \(error)")
    }
  }
}
