// SPDX-License-Identifier: Apache-2.0
public import Synchronization

/// Code that takes what nobody vouches for, made ready for a fuzzer: bytes in, and either nothing or a finding.
public struct FuzzTarget: Sendable {
  /// What tools/fuzz and the corpus call it.
  public let name: String
  private let body: @Sendable ([UInt8]) throws -> Void

  init(_ name: String, _ body: @escaping @Sendable ([UInt8]) throws -> Void) {
    self.name = name
    self.body = body
  }

  /// Runs it on an input once.
  /// - Throws: ``FuzzFinding`` where something is not as it has to be. What traps, hangs or leaks is found by whoever calls.
  public func run(_ input: [UInt8]) throws { try body(input) }

  /// Whether nothing else runs in this process, so that its threads and descriptors can be counted.
  public static let isAlone = Atomic(false)

  /// All of them.
  public static let all = [
    packets, stream, memory, receiver, session, server, scenario, records, tags, preparation, registers,
  ]
}

/// Something that is not as it has to be.
public struct FuzzFinding: Error, CustomStringConvertible {
  /// What.
  public let description: String

  init(_ description: String) { self.description = description }
}

/// That something is so.
func demand(_ isSo: Bool, _ text: @autoclosure () -> String) throws(FuzzFinding) {
  if !isSo { throw FuzzFinding(text()) }
}
