// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

/// What a group of synthetic devices is like: what each device can do, and who writes to whom.
struct GroupShape: Sendable, CustomTestStringConvertible {
  struct Link: Hashable, Sendable {
    let from: Int
    let to: Int

    init(_ from: Int, _ to: Int) {
      self.from = from
      self.to = to
    }
  }

  /// Which of its devices offer pre-copy.
  enum PreCopy: String, CaseIterable, Sendable { case all, some, none }

  let name: String
  let features: [MigrationFeatures]
  let links: [Link]

  /// - Parameter without: the devices that have no P2P states.
  init(_ name: String, count: Int, without: [Int] = [], preCopy: PreCopy = .all, links: [Link]) {
    self.name = "\(name), pre-copy: \(preCopy)"
    features = (0..<count).map { device in
      var features: MigrationFeatures = .stopCopy
      if !without.contains(device) { features.insert(.p2p) }
      if preCopy == .all || preCopy == .some && device % 2 == 0 { features.insert(.preCopy) }
      return features
    }
    self.links = links
  }

  var testDescription: String { name }
  var count: Int { features.count }

  /// Each writes to the next one round.
  static func ring(_ count: Int, _ preCopy: PreCopy = .all) -> GroupShape {
    GroupShape(
      "ring of \(count)", count: count, preCopy: preCopy, links: (0..<count).map { Link($0, ($0 + 1) % count) })
  }

  /// Each writes to each other one, as far as no pair is left out.
  static func dense(
    _ name: String, count: Int, without: [Int] = [], except: [Link] = [], _ preCopy: PreCopy
  ) -> GroupShape {
    let all = (0..<count).flatMap { from in (0..<count).map { Link(from, $0) } }
    let links = all.filter { $0.from != $0.to && !except.contains($0) }
    return GroupShape(name, count: count, without: without, preCopy: preCopy, links: links)
  }

  /// Groups in which devices without P2P states are mixed with others that write to them and that they write to. Those
  /// without come in another order than they have to be stopped in.
  static func mixed(_ preCopy: PreCopy) -> [GroupShape] {
    [
      dense("one without P2P among three", count: 3, without: [1], preCopy),
      // 2 writes to 0, never the other way.
      dense("two without, a link between", count: 3, without: [0, 2], except: [Link(0, 2)], preCopy),
      dense("two without, no link", count: 3, without: [0, 2], except: [Link(0, 2), Link(2, 0)], preCopy),
      // 1 writes to 3, and 3 to 0.
      dense(
        "a chain of three without", count: 4, without: [0, 1, 3],
        except: [Link(3, 1), Link(0, 3), Link(1, 0), Link(0, 1)], preCopy),
    ]
  }

  /// Every kind of group that a plan allows. Those without P2P states have arcs of their own for each kind of pre-copy.
  static let kinds =
    [ring(2), ring(3), dense("eight, each to each", count: 8, .all)] + PreCopy.allCases.flatMap(mixed)

  /// As somebody declares it who knows the links.
  var reachability: Reachability {
    Reachability(count: count) { from, to in
      let exists = links.contains(Link(from, to))
      return .init(path: exists ? .unknown : .none, reason: "the test says so", origin: .declared(by: "the test"))
    }
  }

  /// The pairs of devices without P2P states, in this direction, that no link joins: the only ones that a plan has to be
  /// told of.
  var declaredMissing: [Link] {
    let without = features.indices.filter { !features[$0].contains(.p2p) }
    let pairs = without.flatMap { from in without.map { Link(from, $0) } }
    return pairs.filter { $0.from != $0.to && !links.contains($0) }
  }
}
