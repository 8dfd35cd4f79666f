// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("A compatibility tag's text")
struct TagTests {
  private let header = "vfio-ferry-tag 1\n"

  private func read(_ text: String) throws(CompatibilityTag.Problem) -> CompatibilityTag {
    try CompatibilityTag(decoding: Array(text.utf8))
  }

  @Test("fields are written by name, whatever the order in which they were set, and read back the same")
  func order() throws {
    var one = CompatibilityTag()
    for field in TagField.allCases { one[field] = "value of \(field.rawValue)" }
    var other = CompatibilityTag()
    for field in TagField.allCases.reversed() { other[field] = "value of \(field.rawValue)" }
    #expect(one == other && one.encoded == other.encoded)
    let keys = one.entries.map(\.key)
    #expect(keys == keys.sorted() && keys.count == TagField.allCases.count)
    #expect(try CompatibilityTag(decoding: one.encoded) == one)
    for field in TagField.allCases { #expect(one[field] == "value of \(field.rawValue)") }
    #expect(CompatibilityTag().text == header)
    #expect(try read(header) == CompatibilityTag())
  }

  @Test("what is set is made fit to be written: printable ASCII, not too long, and nothing for nothing")
  func values() throws {
    var tag = CompatibilityTag()
    tag[.driver] = "a\nb\u{1b}é"
    #expect(tag[.driver] == "a?b???")
    tag[.kernel] = String(repeating: "9", count: 5000)
    #expect(tag[.kernel]?.utf8.count == 1024)
    tag[.mac] = ""
    #expect(tag[.mac] == nil)
    #expect(try CompatibilityTag(decoding: tag.encoded) == tag)
    tag[.driver] = nil
    #expect(tag[.driver] == nil && tag.entries.count == 1)
  }

  @Test("the decisive text has what the loose policy may refuse by, which depends on the vendor, and nothing else")
  func decisive() {
    var tag = CompatibilityTag()
    for field in TagField.allCases { tag[field] = "x" }
    let fields = { (text: String) in Set(text.split(separator: "\n").map { String($0.split(separator: " ")[0]) }) }
    let all = Set(TagField.allCases.map(\.rawValue))
    let never = ["driver_srcversion", "eswitch_mode", "eswitch_rules", "kernel", "spoof_check", "subsystem", "trust"]
    #expect(fields(tag.decisiveText) == all.subtracting(never))
    tag[.vendor] = "15b3"
    #expect(fields(tag.decisiveText) == all.subtracting(never).union(["eswitch_mode"]))
    var other = tag
    for field in [TagField.kernel, .subsystem, .driverSource, .eswitchRules, .spoofCheck, .trust] { other[field] = "y" }
    #expect(other.decisiveText == tag.decisiveText)
    #expect(TagComparison(source: tag, destination: other).refusals(under: .loose).isEmpty)
  }

  @Test("the largest tag that can be made is no larger than one may be")
  func largest() throws {
    var tag = CompatibilityTag()
    for field in TagField.allCases { tag[field] = String(repeating: "x", count: 2000) }
    #expect(tag.entries.allSatisfy { $0.value.utf8.count == 1024 })
    #expect(try CompatibilityTag(decoding: tag.encoded) == tag)
  }

  @Test("fields that a newer program wrote are kept")
  func unknown() throws {
    let text = header + "driver mtty\nwheels 4\n"
    #expect(try read(text).text == text)
  }

  @Test("another version is refused by its number, and what is no tag as that")
  func versions() {
    #expect(throws: CompatibilityTag.Problem.unsupportedVersion("2")) { try read("vfio-ferry-tag 2\nx y\n") }
    #expect(throws: CompatibilityTag.Problem.unsupportedVersion("01")) { try read("vfio-ferry-tag 01\n") }
    for text in ["", "vfio-ferry-tag", "vfio-ferry-tag \n", "vfio-ferry-tag x\n", "vfio-ferry-tag 1x\n", "VFF", "\n"] {
      #expect(throws: CompatibilityTag.Problem.notATag, "\(text)") { try read(text) }
    }
    #expect(throws: CompatibilityTag.Problem.notATag) {
      try read("vfio-ferry-tag " + String(repeating: "1", count: 10_000))
    }
  }

  @Test(
    "a line that this program would not have written is refused with its number",
    arguments: [
      ("driver mtty", 2), ("driver mtty\n\n", 3), ("driver\n", 2), ("driver \n", 2), (" mtty\n", 2), ("Driver x\n", 2),
      ("driver a\ndriver b\n", 3), ("vendor a\ndriver b\n", 3), ("driver a\tb\n", 2), ("driver é\n", 2),
      ("a\0b c\n", 2), ("driver a\r\n", 2),
    ])
  func badLines(text: String, line: Int) {
    #expect(throws: CompatibilityTag.Problem.badLine(line)) { try read(header + text) }
  }

  @Test("lengths and counts are bounded, and the bound itself is allowed")
  func bounds() throws {
    func key(_ number: Int) -> String {
      "k" + String(repeating: "a", count: number / 26) + String(UnicodeScalar(UInt8(97 + number % 26)))
    }
    func lines(_ count: Int) -> String { (0..<count).map { key($0) }.sorted().map { "\($0) v\n" }.joined() }
    #expect(try read(header + lines(64)).entries.count == 64)
    #expect(throws: CompatibilityTag.Problem.tooLarge) { try read(header + lines(65)) }
    let (longKey, longValue) = (String(repeating: "k", count: 63), String(repeating: "v", count: 1024))
    #expect(try read(header + "\(longKey) \(longValue)\n").entries.count == 1)
    #expect(throws: CompatibilityTag.Problem.badLine(2)) { try read(header + "\(longKey)k v\n") }
    #expect(throws: CompatibilityTag.Problem.badLine(2)) { try read(header + "k \(longValue)v\n") }
    #expect(throws: CompatibilityTag.Problem.tooLarge) {
      try CompatibilityTag(decoding: [UInt8](repeating: 10, count: CompatibilityTag.maximumSize + 1))
    }
  }

  @Test("a tag that is cut off or has one bit changed is refused or says something else; nothing traps")
  func damage() throws {
    var tag = CompatibilityTag()
    tag[.driver] = "mlx5_vfio_pci"
    tag[.bars] = "0:33554432p"
    let bytes = tag.encoded
    for length in 0..<bytes.count { #expect((try? CompatibilityTag(decoding: Array(bytes[..<length]))) != tag) }
    for bit in 0..<bytes.count * 8 {
      var damaged = bytes
      damaged[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect((try? CompatibilityTag(decoding: damaged)) != tag)
    }
  }
}
