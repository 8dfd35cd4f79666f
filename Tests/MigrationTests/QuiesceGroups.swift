// SPDX-License-Identifier: Apache-2.0
import Migration

/// The groups that are gone through: devices a, b, c, d with their flags, and each relation between them.
enum ModelGroup {
  static let names = ["a", "b", "c", "d"]
  private static let orderedPairs = (0...4).map { OrderedPairs(count: $0) }
  private static let reachabilities = (0...4).map { count in
    orderedPairs[count].relations.map { relation in reachability(relation, count: count) }
  }

  static func pairs(_ count: Int) -> [(from: Int, to: Int)] { orderedPairs[count].pairs }

  /// All ways to give each device one of the four defined combinations.
  static func flags(count: Int) -> [[MigrationFeatures]] {
    var all: [[MigrationFeatures]] = [[]]
    for _ in 0..<count {
      all = all.flatMap { flags in MigrationFeatures.definedCombinations.map { flags + [$0] } }
    }
    return all
  }

  /// Each device in RUNNING.
  static func running(_ flags: [MigrationFeatures]) -> [MigrationState] { flags.map { _ in .running } }

  /// Each device in PRE_COPY where it has that, and else in RUNNING.
  static func preCopy(_ flags: [MigrationFeatures]) -> [MigrationState] {
    flags.map { $0.contains(.preCopy) ? .preCopy : .running }
  }

  static func devices(_ flags: [MigrationFeatures]) -> [QuiescePlan.Device] {
    zip(names, flags).map { QuiescePlan.Device(name: $0, features: $1) }
  }

  /// The relation that has these pairs, in bits over ``pairs(_:)``.
  static func reachability(_ relation: Int, count: Int) -> Reachability {
    Reachability(count: count) { from, to in
      let index = from * (count - 1) + (to > from ? to - 1 : to)
      let path: Reachability.Path = relation & 1 << index != 0 ? .direct(at: "s") : .none
      return Reachability.Link(path: path, reason: "r", origin: .observed)
    }
  }

  /// The bits of some pairs, written as "ab" for one from a to b.
  static func relation(_ links: [String], count: Int) -> Int {
    pairs(count).enumerated().reduce(0) { relation, pair in
      links.contains(names[pair.element.from] + names[pair.element.to]) ? relation | 1 << pair.offset : relation
    }
  }

  /// The plan of a group that has one.
  static func plan(_ flags: [MigrationFeatures], _ links: [String]) throws -> QuiescePlan {
    try QuiescePlan(
      devices: devices(flags), reachability: reachability(relation(links, count: flags.count), count: flags.count))
  }

  /// The plan or the refusal for each relation between devices with these flags.
  static func forEach(
    _ flags: [MigrationFeatures], _ body: (_ relation: Int, _ result: Result<QuiescePlan, QuiesceRefusal>) -> Void
  ) {
    let devices = devices(flags)
    for (relation, reachability) in reachabilities[flags.count].enumerated() {
      body(
        relation, Result { () throws(QuiesceRefusal) in try QuiescePlan(devices: devices, reachability: reachability) })
    }
  }
}

/// What was found wrong: how often, and the first of it. A plan that is wrong is wrong for a million groups.
struct Findings {
  private(set) var count = 0
  private(set) var first = "nothing"

  mutating func add(_ flags: [MigrationFeatures], _ relation: Int, _ what: @autoclosure () -> String = "") {
    count += 1
    if count == 1 { first = "\(flags.map(\.names)), relation \(relation): \(what())" }
  }
}
