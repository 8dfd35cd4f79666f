// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import Topology

@Suite("The record of what was there before")
struct PreparationRecordTests {
  static let text = """
    vfio-ferry prepared 1
    device pci 0000:3b:00.0
    boot 1c0e4d5a-0000-4000-8000-000000000001
    was switch-mode legacy now switchdev
    was autoprobe 1 now 0
    was functions 0 now 2
    was address 0 00:00:00:00:00:00 now 02:00:5e:00:00:11
    was migratable 0 disable now enable
    was driver-override 0 - now vfio-pci
    was driver 11 mlx5_core now -
    end

    """

  @Test("is read as it was written")
  func round() throws {
    let record = try #require(PreparationRecord(Array(Self.text.utf8)))
    #expect(record.text == Self.text && record.name == "pci-0000:3b:00.0")
    #expect(record.entries.count == 7)
    #expect(record.entries[5] == .init(setting: .driverOverride(0), value: "", changed: "vfio-pci"))
    #expect(record.entries[6] == .init(setting: .driver(11), value: "mlx5_core", changed: ""))
  }

  @Test(
    "is not believed where it is anything else",
    arguments: [
      ("prepared 1", "prepared 2"), ("device pci", "device"), ("0000:3b:00.0", "../../etc"), ("end\n", ""),
      ("was autoprobe 1 ", "was autoprobe "), ("was autoprobe 1 ", "was autoprobe 1 1 "),
      ("functions 0", "functions"), ("1 now 0\n", "1\n"), ("1 now 0\n", "1 now\n"), ("1 now 0\n", "1 new 0\n"),
      ("now 0\n", "now 0/\n"),
      ("address 0 ", "address -1 "), ("address 0 ", "address 00 "), ("driver 11", "driver 70000"),
      ("was driver", "is driver"),
      ("legacy", "le/gacy"), ("switchdev\n", "switchdev \n"), ("legacy", "l\u{1b}"),
      ("boot 1c0e4d5a", "boot  1c0e4d5a"),
    ])
  func damaged(_ change: (from: String, to: String)) {
    let text = Self.text.components(separatedBy: change.from).joined(separator: change.to)
    #expect(text != Self.text)
    #expect(PreparationRecord(Array(text.utf8)) == nil)
  }

  @Test("what could not be read again is known before it is written")
  func readable() throws {
    let record = try #require(PreparationRecord(Array(Self.text.utf8)))
    #expect(record.isReadable)
    for value in ["a b", "a\nend", "\u{1b}", String(repeating: "x", count: 65), "-"] {
      var other = record
      other.entries.append(.init(setting: .driverOverride(1), value: value, changed: "vfio-pci"))
      #expect(!other.isReadable)
      other.entries[7] = .init(setting: .driverOverride(1), value: "vfio-pci", changed: value)
      #expect(!other.isReadable)
    }
    var long = record
    long.entries = [PreparationRecord.Entry](repeating: record.entries[0], count: 60_000)
    #expect(!long.isReadable)
  }

  @Test("tells what a setting was first, and all that it was on the way")
  func values() throws {
    var record = try #require(PreparationRecord(Array(Self.text.utf8)))
    record.entries.append(.init(setting: .autoprobe, value: "0", changed: "1"))
    record.entries.append(.init(setting: .driver(11), value: "", changed: "vfio-pci"))
    #expect(record.original(.autoprobe) == "1" && record.original(.driver(0)) == nil)
    #expect(record.own(.driver(11)) == ["mlx5_core", "", "vfio-pci"] && record.own(.driver(0)).isEmpty)
  }

  @Test("cut anywhere it is none")
  func cut() {
    for count in 0..<Self.text.utf8.count { #expect(PreparationRecord(Array(Self.text.utf8.prefix(count))) == nil) }
  }
}
