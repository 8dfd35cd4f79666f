// SPDX-License-Identifier: Apache-2.0
import Foundation
import FuzzTargets

/// The inputs that are kept of a target: a line of hexadecimal digits each, in Corpus/TARGET.corpus.
enum FuzzCorpus {
  struct Malformed: Error { let line: String }

  static func inputs(of target: FuzzTarget) throws -> [[UInt8]] {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("Corpus/\(target.name).corpus")
    let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n").filter { !$0.hasPrefix("#") }
    return try lines.map { line in
      let digits = line.utf8.compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
      guard digits.count == line.utf8.count, digits.count % 2 == 0 else { throw Malformed(line: String(line)) }
      return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }
  }
}

/// Changes inputs as a fuzzer does, the same way each time.
struct Mutation {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  private mutating func next(_ count: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int(state >> 33) % max(1, count)
  }

  /// One of the inputs, changed in a few places, with a part of another in it now and then.
  mutating func mutant(of inputs: [[UInt8]]) -> [UInt8] {
    guard !inputs.isEmpty else { return (0..<next(64)).map { _ in UInt8(next(256)) } }
    var bytes = inputs[next(inputs.count)]
    for _ in 0...next(4) {
      let place = next(bytes.count + 1)
      switch next(5) {
      case 0: bytes.insert(UInt8(next(256)), at: place)
      case 1 where place < bytes.count: bytes.remove(at: place)
      case 2 where place < bytes.count: bytes[place] ^= 1 << UInt8(next(8))
      case 3 where place < bytes.count: bytes[place] = [0, 1, 0x7f, 0x80, 0xff][next(5)]
      default:
        let other = inputs[next(inputs.count)]
        let start = next(other.count + 1)
        bytes.insert(contentsOf: other[start..<min(other.count, start + next(16))], at: place)
      }
    }
    return bytes
  }
}
