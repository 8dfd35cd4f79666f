// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

/// One thing that is different on the destination, and what has to come of it.
struct TagPair: Sendable, CustomTestStringConvertible {
  let name: String
  let field: TagField
  /// nil: the destination does not say.
  let value: String?
  let relation: TagRelation
  let refuses: [TagPolicy]
  /// What the source has in place of what it has otherwise.
  var source: [(TagField, String?)] = []

  var testDescription: String { name }

  static let both: [TagPolicy] = [.strict, .loose]

  /// The matrix: each row a pair of devices that differ in one thing.
  static let all: [TagPair] = [
    TagPair(name: "newer firmware", field: .firmware, value: "28.42.1000", relation: .newer, refuses: [.strict]),
    TagPair(name: "older firmware", field: .firmware, value: "28.39.2048", relation: .older, refuses: both),
    TagPair(name: "firmware of no order", field: .firmware, value: "28.x.1000", relation: .different, refuses: both),
    TagPair(name: "unknown firmware", field: .firmware, value: nil, relation: .missing, refuses: [.strict]),
    TagPair(name: "newer driver", field: .driverVersion, value: "1.3", relation: .newer, refuses: [.strict]),
    TagPair(name: "older driver", field: .driverVersion, value: "1.1.9", relation: .older, refuses: both),
    TagPair(
      name: "driver of other sources", field: .driverSource, value: "AB", relation: .different, refuses: [.strict]),
    TagPair(name: "newer kernel", field: .kernel, value: "6.12.100", relation: .newer, refuses: [.strict]),
    TagPair(name: "older kernel", field: .kernel, value: "6.1.0", relation: .older, refuses: [.strict]),
    TagPair(name: "other driver", field: .driver, value: "vfio-pci", relation: .different, refuses: both),
    TagPair(name: "no driver", field: .driver, value: nil, relation: .missing, refuses: both),
    TagPair(name: "other vendor", field: .vendor, value: "8086", relation: .different, refuses: both),
    TagPair(name: "other device", field: .device, value: "1019", relation: .different, refuses: both),
    TagPair(name: "other card", field: .subsystem, value: "15b3:0059", relation: .different, refuses: [.strict]),
    TagPair(name: "other revision", field: .revision, value: "01", relation: .different, refuses: both),
    TagPair(name: "other class", field: .classCode, value: "020700", relation: .different, refuses: both),
    TagPair(
      name: "other generation", field: .physicalFunction, value: "15b3:101d", relation: .different, refuses: both),
    TagPair(name: "other BARs", field: .bars, value: "0:2097152p", relation: .different, refuses: both),
    TagPair(
      name: "other layout of capabilities", field: .capabilities, value: "10@60 11@a0", relation: .different,
      refuses: both),
    TagPair(
      name: "other layout of extended capabilities", field: .extendedCapabilities, value: "none", relation: .different,
      refuses: both),
    TagPair(
      name: "capabilities that could not be read", field: .capabilities, value: nil, relation: .missing,
      refuses: [.strict]),
    TagPair(name: "more vectors", field: .msixVectors, value: "100", relation: .more, refuses: [.strict]),
    TagPair(name: "fewer vectors", field: .msixVectors, value: "9", relation: .fewer, refuses: both),
    TagPair(
      name: "more features", field: .features, value: "pre-copy later p2p stop-copy", relation: .more,
      refuses: [.strict]),
    TagPair(name: "fewer features", field: .features, value: "stop-copy", relation: .fewer, refuses: both),
    TagPair(
      name: "other features", field: .features, value: "stop-copy p2p later", relation: .different, refuses: both),
    TagPair(name: "other MAC", field: .mac, value: "02:00:00:00:00:02", relation: .different, refuses: both),
    TagPair(name: "no MAC", field: .mac, value: nil, relation: .missing, refuses: [.strict]),
    TagPair(
      name: "a MAC that the source does not say", field: .mac, value: "02:00:00:00:00:02", relation: .extra,
      refuses: [.strict], source: [(.mac, nil)]),
    TagPair(
      name: "e-switch rules of which the source does not say", field: .eswitchRules, value: "none", relation: .extra,
      refuses: [.strict], source: [(.eswitchRules, nil)]),
    TagPair(name: "other VLAN", field: .vlan, value: "0", relation: .different, refuses: both),
    TagPair(
      name: "other e-switch mode, ConnectX", field: .eswitchMode, value: "legacy", relation: .different, refuses: both),
    TagPair(
      name: "other e-switch mode, another vendor", field: .eswitchMode, value: "legacy", relation: .different,
      refuses: [.strict], source: [(.vendor, "1dd8")]),
    TagPair(
      name: "other e-switch rules", field: .eswitchRules, value: "3 (0123456789abcdef)", relation: .different,
      refuses: [.strict]),
    TagPair(name: "no e-switch rules", field: .eswitchRules, value: "none", relation: .different, refuses: [.strict]),
    TagPair(
      name: "e-switch rules that could not be read", field: .eswitchRules, value: nil, relation: .missing,
      refuses: [.strict]),
    TagPair(name: "packets checked", field: .spoofCheck, value: "on", relation: .different, refuses: [.strict]),
    TagPair(name: "not trusted", field: .trust, value: "off", relation: .different, refuses: [.strict]),
    TagPair(
      name: "other type of mediated device", field: .mediatedType, value: "mtty-2", relation: .different, refuses: both,
      source: [(.mediatedType, "mtty-1")]),
    TagPair(
      name: "mediated, and not so", field: .mediatedType, value: "mtty-2", relation: .extra, refuses: both),
  ]
}

@Suite("Two compatibility tags")
struct TagComparisonTests {
  static func connectX() -> CompatibilityTag {
    var tag = CompatibilityTag()
    let fields: [(TagField, String)] = [
      (.vendor, "15b3"), (.device, "101e"), (.subsystem, "15b3:0058"), (.revision, "00"), (.classCode, "020000"),
      (.physicalFunction, "15b3:1021"), (.bars, "0:1048576p"), (.capabilities, "10@60 11@9c"),
      (.extendedCapabilities, "000e@100 000d@150"), (.msixVectors, "12"), (.driver, "mlx5_vfio_pci"),
      (.driverVersion, "1.2"), (.driverSource, "AA"), (.kernel, "6.12.30"), (.firmware, "28.41.1000"),
      (.features, "stop-copy p2p pre-copy"), (.mac, "02:00:00:00:00:01"), (.vlan, "7"), (.eswitchMode, "switchdev"),
      (.eswitchRules, "3 (7f3a91c2d0e4b6aa)"), (.spoofCheck, "off"), (.trust, "on"),
    ]
    for (field, value) in fields { tag[field] = value }
    return tag
  }

  @Test("one with itself is equal in everything, and no policy refuses it")
  func equal() {
    let comparison = TagComparison(source: Self.connectX(), destination: Self.connectX())
    #expect(comparison.findings.count == 22 && comparison.findings.allSatisfy { $0.relation == .equal })
    for policy in TagPolicy.allCases { #expect(comparison.refusals(under: policy) == []) }
  }

  /// Two tags that differ as a pair says.
  private static func tags(of pair: TagPair) -> (source: CompatibilityTag, destination: CompatibilityTag) {
    var source = connectX()
    for (field, value) in pair.source { source[field] = value }
    var destination = source
    destination[pair.field] = pair.value
    return (source, destination)
  }

  @Test("each difference has its verdict under both policies, and its reason", arguments: TagPair.all)
  func matrix(pair: TagPair) throws {
    let (source, destination) = Self.tags(of: pair)
    let comparison = TagComparison(source: source, destination: destination)
    let found = comparison.findings.filter { $0.relation != .equal }
    let finding = try #require(found.first)
    #expect(found.count == 1 && finding.key == pair.field.rawValue)
    #expect(finding.relation == pair.relation)
    for policy in TagPolicy.allCases {
      let expected = pair.refuses.contains(policy) ? [finding] : []
      #expect(comparison.refusals(under: policy) == expected, "\(policy)")
      let reason = TagComparison.refusal(
        source: source.encoded, destination: destination.encoded, policy: policy)
      let words =
        "\(pair.field.rawValue) is \(pair.relation.rawValue): \(source[pair.field] ?? "unknown") on the source, "
        + "\(pair.value ?? "unknown") on the destination"
      #expect(reason == (pair.refuses.contains(policy) ? words : nil), "\(policy)")
    }
  }

  @Test("the matrix has every field and every relation that a field can have")
  func complete() {
    #expect(Set(TagPair.all.map(\.field)) == Set(TagField.allCases))
    #expect(Set(TagPair.all.map(\.relation)) == Set(TagRelation.allCases.filter { $0 != .equal }))
  }

  @Test(
    "what peers know the guest by is warned of where it refuses nothing, unless the source does not say",
    arguments: TagPair.all)
  func warnings(pair: TagPair) {
    let (source, destination) = Self.tags(of: pair)
    let comparison = TagComparison(source: source, destination: destination)
    let known: [TagField] = [.mac, .vlan, .spoofCheck, .trust, .eswitchMode, .eswitchRules]
    for policy in TagPolicy.allCases {
      let warned = known.contains(pair.field) && pair.relation != .extra && !pair.refuses.contains(policy)
      #expect(comparison.warnings(under: policy).map(\.key) == (warned ? [pair.field.rawValue] : []), "\(policy)")
    }
  }

  @Test("turned around, what was newer is older and what was more is fewer", arguments: TagPair.all)
  func turned(pair: TagPair) throws {
    var other = Self.connectX()
    other[pair.field] = pair.value
    let opposite: [TagRelation: TagRelation] = [
      .newer: .older, .older: .newer, .more: .fewer, .fewer: .more, .missing: .extra, .extra: .missing,
    ]
    let there = TagComparison(source: Self.connectX(), destination: other).findings.map(\.relation)
    let back = TagComparison(source: other, destination: Self.connectX()).findings.map(\.relation)
    #expect(back == there.map { opposite[$0] ?? $0 })
  }

  @Test(
    "versions are compared number by number, and a part that is no number only with itself",
    arguments: [
      ("28.41.1000", "28.41.1000", .equal), ("28.9.1", "28.10.1", .newer), ("1.0", "1.0.1", .newer),
      ("1.0.1", "1.0", .older), ("01.2", "1.2", .different), ("6.12.0-13-amd64", "6.12.0-14-amd64", .newer),
      ("6.12.0-amd64", "6.12.0-cloud", .different), ("6.12", "6.12-rc1", .different), ("a", "b", .different),
      ("99999999999999999999", "1", .different), ("1..2", "1.2", .different), ("6.12", "6.13-rc1", .newer),
    ] as [(String, String, TagRelation)])
  func versions(source: String, destination: String, relation: TagRelation) {
    var (one, other) = (CompatibilityTag(), CompatibilityTag())
    one[.kernel] = source
    other[.kernel] = destination
    #expect(TagComparison(source: one, destination: other).findings.map(\.relation) == [relation])
  }

  @Test("what a peer wrote into its tag makes no page of a message")
  func bounded() {
    var (one, other) = (CompatibilityTag(), CompatibilityTag())
    for field in TagField.allCases {
      one[field] = String(repeating: "a", count: 1024)
      other[field] = String(repeating: "b", count: 1024)
    }
    let reason = TagComparison.refusal(source: one.encoded, destination: other.encoded, policy: .strict)
    #expect(reason?.hasSuffix("; and 17 more") == true && (reason?.utf8.count ?? .max) < 2000)
  }

  @Test("a field that this program does not know refuses under the strict policy only")
  func unknown() throws {
    let one = try CompatibilityTag(decoding: Array("vfio-ferry-tag 1\nwheels 4\n".utf8))
    let other = try CompatibilityTag(decoding: Array("vfio-ferry-tag 1\nwheels 3\nwings 2\n".utf8))
    let comparison = TagComparison(source: one, destination: other)
    #expect(comparison.findings.map(\.key) == ["wheels", "wings"])
    #expect(comparison.refusals(under: .strict).count == 2 && comparison.refusals(under: .loose).isEmpty)
  }

  @Test("where either side has no tag nothing is refused; one that can't be read is, and the same bytes are not")
  func unreadable() {
    let tag = Self.connectX().encoded
    let newer = Array("vfio-ferry-tag 2\n".utf8)
    for policy in TagPair.both {
      #expect(TagComparison.refusal(source: [], destination: tag, policy: policy) == nil)
      #expect(TagComparison.refusal(source: tag, destination: [], policy: policy) == nil)
      #expect(TagComparison.refusal(source: newer, destination: newer, policy: policy) == nil)
      let reason = TagComparison.refusal(source: newer, destination: tag, policy: policy)
      #expect(reason?.contains("version 2") == true)
      #expect(TagComparison.refusal(source: [0, 255], destination: tag, policy: policy)?.contains("no compat") == true)
    }
    #expect(TagComparison.refusal(source: newer, destination: tag, policy: .none) == nil)
  }
}
