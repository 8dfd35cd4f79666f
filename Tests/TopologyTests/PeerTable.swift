// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing
import Topology
import TopologyFixtures

/// A table of every ordered pair of some devices, worked out by hand: a row for each initiator, a column for each target.
struct PeerTable {
  /// What a word in the table stands for: the path, and what its reason must name.
  typealias Meaning = (path: Reachability.Path, reason: String)

  var devices: [String]
  var cells: [[String]]

  /// - Parameter text: a line for each device: its address, a colon, and a word for each target, `-` for itself.
  init(_ text: String) {
    let lines = text.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    devices = lines.map { "0000:" + $0[0] }.map { $0.count > 12 ? String($0.dropFirst(5)) : $0 }
    cells = lines.map { Array($0.dropFirst()) }
  }

  /// Holds a relation over the devices against the table.
  func check(_ relation: Reachability, _ meanings: [String: Meaning]) throws {
    #expect(cells.allSatisfy { $0.count == devices.count })
    for (from, row) in cells.enumerated() {
      for (to, word) in row.enumerated() {
        guard from != to else {
          #expect(word == "-")
          continue
        }
        let pair = "\(devices[from]) to \(devices[to])"
        let meaning = try #require(meanings[word], "\(word) has no meaning")
        let link = relation[from, to]
        #expect(link.path == meaning.path, "\(pair): \(link.reason)")
        #expect(link.reason.contains(meaning.reason), "\(pair): \(link.reason)")
        #expect(!link.reason.hasSuffix("."))
      }
    }
  }

  /// What words mean that are the same on every host; the others name a place.
  static let none: Meaning = (.none, "no memory BAR")
  static func inSwitch(_ place: String) -> Meaning { (.direct(at: "0000:\(place)"), "request redirect off") }
  static func translated(_ place: String) -> Meaning { (.direct(at: "0000:\(place)"), "translated") }
  static func inside(_ place: String) -> Meaning { (.direct(at: "0000:\(place)"), "functions of one device") }
  static func onBus(_ place: String) -> Meaning { (.direct(at: "0000:\(place)"), "conventional") }
  static func redirected(_ host: String, by port: String) -> Meaning {
    (.redirected(through: host), "0000:\(port) has request redirect on")
  }
  static func acrossRoots(_ host: String) -> Meaning { (.redirected(through: host), "nothing in common") }
  static func acrossHosts(_ first: String, _ second: String) -> Meaning {
    (.redirected(through: "\(first) and \(second)"), "different host bridges")
  }
}
