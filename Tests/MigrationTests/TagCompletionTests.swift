// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

@Suite("A tag that somebody else completes")
struct TagCompletionTests {
  /// What a helper finds out of a ConnectX VF: files only.
  private static func found() -> CompatibilityTag {
    var tag = TagComparisonTests.connectX()
    for field in [TagField.firmware, .mac, .vlan, .eswitchMode, .eswitchRules, .spoofCheck, .trust] { tag[field] = nil }
    return tag
  }

  @Test("what can't be found out is taken, with fields that this program does not know, and the rest is what it was")
  func taken() throws {
    let told = try CompatibilityTag(decoding: Array((TagComparisonTests.connectX().text + "wheels 4\n").utf8))
    let whole = try Self.found().completed(by: told)
    #expect(whole == told)
    #expect(try CompatibilityTag(decoding: whole.encoded) == whole)
    #expect(try Self.found().completed(by: CompatibilityTag()) == Self.found())
    #expect(try CompatibilityTag().completed(by: CompatibilityTag()) == CompatibilityTag())
  }

  @Test(
    "another value of what was found out is a contradiction that names the field, whatever the field",
    arguments: TagField.allCases.filter { $0 != .features })
  func contradictions(field: TagField) {
    var told = CompatibilityTag()
    told[field] = "x"
    var own = Self.found()
    own[field] = "y"
    let thrown = #expect(throws: TagContradiction.differs(key: field.rawValue, said: "x", found: "y")) {
      _ = try own.completed(by: told)
    }
    #expect(thrown.map { "\($0)" } == "it says \(field.rawValue) x, and here that is y")
  }

  @Test("what a device that was asked says of its features is right, whatever its driver usually does")
  func features() throws {
    var (own, told) = (CompatibilityTag(), CompatibilityTag())
    (own[.features], told[.features]) = ("stop-copy", "stop-copy p2p pre-copy")
    #expect(try own.completed(by: told) == own)
  }

  @Test(
    "a field that every host can tell is not taken where the device has none; any other is",
    arguments: TagField.allCases)
  func absent(field: TagField) throws {
    var told = CompatibilityTag()
    told[field] = "x"
    var own = Self.found()
    own[field] = nil
    let told1 = told
    let own1 = own
    guard [.vendor, .device, .revision, .classCode, .bars, .mediatedType, .driver].contains(field) else {
      #expect(try own.completed(by: told)[field] == "x")
      return
    }
    #expect(throws: TagContradiction.hasNone(key: field.rawValue, said: "x")) { _ = try own1.completed(by: told1) }
  }

  @Test("a whole has no more fields and no more bytes than a tag may have: 64, and 32,768")
  func large() throws {
    func tag(_ count: Int, _ bytes: Int = 1) throws -> CompatibilityTag {
      let lines = (0..<count).map { index in
        let letters = [index / 26, index % 26].map { String(UnicodeScalar(UInt8(97 + $0))) }.joined()
        return "x\(letters) \(String(repeating: "v", count: bytes))\n"
      }
      return try CompatibilityTag(decoding: Array(("vfio-ferry-tag 1\n" + lines.joined()).utf8))
    }
    var own = CompatibilityTag()
    own[.driver] = "d"
    #expect(try own.completed(by: tag(63)).entries.count == 64)
    #expect(throws: TagContradiction.tooLarge) { _ = try own.completed(by: tag(64)) }
    // 17 bytes of the first line, and 1,029 of each of 31 lines.
    #expect(try tag(31, 1024).encoded.count == 17 + 31 * 1029)
    own[.driver] = String(repeating: "d", count: 32_768 - 17 - 31 * 1029 - 8)
    let most = try own.completed(by: tag(31, 1024))
    #expect(most.encoded.count == CompatibilityTag.maximumSize)
    #expect(try CompatibilityTag(decoding: most.encoded) == most)
    own[.driver] = (own[.driver] ?? "") + "d"
    #expect(throws: TagContradiction.tooLarge) { _ = try own.completed(by: tag(31, 1024)) }
  }

  /// Tags of a few values each, so that two are often the same in a field; the same ones each time.
  private struct Dice {
    var state: UInt64 = 7

    mutating func roll(_ count: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % count
    }

    mutating func tag() -> CompatibilityTag {
      var tag = CompatibilityTag()
      for field in TagField.allCases where roll(3) > 0 {
        tag[field] = roll(40) > 0 ? "1" : ["2", "1.1", "15b3", "x"][roll(4)]
      }
      if roll(2) == 0, tag[.vendor] != nil { tag[.vendor] = "15b3" }
      return tag
    }

    /// What somebody says of a device of which this was found out: mostly of the same one.
    mutating func told(of own: CompatibilityTag) -> CompatibilityTag {
      var told = tag()
      for field in TagField.allCases where roll(60) > 0 { told[field] = own[field] ?? told[field] }
      for field in [TagField.vendor, .device, .revision, .classCode, .bars, .mediatedType, .driver]
      where own[field] == nil && roll(60) > 0 {
        told[field] = nil
      }
      return told
    }
  }

  @Test("nothing that either side is told makes a load pass which is refused by what they found out themselves")
  func never() throws {
    var dice = Dice()
    var (refused, completed, stricter) = (0, 0, 0)
    for _ in 0..<1000 {
      let source = dice.tag()
      // Mostly nearly the same one.
      var destination = source
      let other = dice.tag()
      for field in TagField.allCases where dice.roll(12) == 0 { destination[field] = other[field] }
      let told = (dice.told(of: source), dice.told(of: destination))
      guard let from = try? source.completed(by: told.0), let to = try? destination.completed(by: told.1)
      else { continue }
      completed += 1
      let before = TagComparison(source: source, destination: destination).refusals(under: .loose)
      let after = TagComparison(source: from, destination: to).refusals(under: .loose)
      #expect(before.allSatisfy(after.contains), "\(source), \(destination), \(told)")
      refused += before.isEmpty ? 0 : 1
      stricter += after.count > before.count ? 1 : 0
    }
    // It was put to the test.
    #expect(completed > 100 && refused > 20 && stricter > 20, "\(completed), \(refused), \(stricter)")
  }
}
