// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

/// A `vfio-ferry` that prints a JSON object a line, for as long as it is let.
final class FerryLines {
  private let process = Process()
  private let output = Pipe()
  private let errors = Pipe()
  private var pending = Data()

  init(_ arguments: [String]) throws {
    process.executableURL = Lab.ferryProgram
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = errors
    try process.run()
  }

  static func object(_ line: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
  }

  /// The next object.
  func next() throws -> [String: Any] {
    while true {
      if let end = pending.firstIndex(of: 10) {
        let line = String(decoding: pending[..<end], as: UTF8.self)
        pending = Data(pending[(end + 1)...])
        return try Self.object(line)
      }
      let data = output.fileHandleForReading.availableData
      if data.isEmpty { throw Lab.Overdue(description: "vfio-ferry has ended: \(wait().err)") }
      pending += data
    }
  }

  /// Sends a signal, and waits for the end.
  func end(_ signal: Int32) -> Ended {
    kill(process.processIdentifier, signal)
    return wait()
  }

  func wait() -> Ended {
    let rest = output.fileHandleForReading.readDataToEndOfFile()
    let said = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return Ended(
      status: process.terminationStatus, out: String(decoding: rest, as: UTF8.self),
      err: String(decoding: said, as: UTF8.self))
  }

  deinit { if process.isRunning { process.terminate() } }
}
