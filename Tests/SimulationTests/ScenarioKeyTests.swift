// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("The keys of scenario files")
struct ScenarioKeyTests {
  /// The fields of a value and of the values in it, in order, each with its content in words.
  static func fields(_ value: Any, _ path: String = "") -> [(path: String, content: String)] {
    let children = Mirror(reflecting: value).children
    let isStructure = Mirror(reflecting: value).displayStyle == .struct && !children.isEmpty
    guard isStructure else { return [(path, "\(value)")] }
    return children.flatMap { fields($0.value, path + "." + ($0.label ?? "?")) }
  }

  /// Some values that a key may have, those at the ends of its range among them.
  static func values(of key: ScenarioKey) -> [UInt64] {
    switch key.form {
    case .choice(let words): Array(0..<UInt64(words.count))
    case .quantity(_, let range):
      [range.lowerBound, range.lowerBound + 1, (range.lowerBound + range.upperBound) / 2 + 1, range.upperBound]
    }
  }

  @Test("every field of a world is a key's, or one that fault lines change")
  func reachable() {
    let world = BuiltInWorld.nicGPU.description
    let file = ScenarioFile(world: world)
    let before = Self.fields(world)
    var reached: Set = [
      ".name", ".channel.breaksAfter", ".channel.breaksAfterWord", ".channel.breaksAt", ".channel.flips",
    ]
    for key in ScenarioKey.all {
      var isChanged = false
      for value in Self.values(of: key) {
        var changed = file
        key.write(&changed, value)
        isChanged = isChanged || changed != file
        for (old, new) in zip(before, Self.fields(changed.world)) where old.content != new.content {
          reached.insert(old.path)
        }
      }
      #expect(isChanged, "\(key.name) changes nothing")
    }
    for field in before { #expect(reached.contains(field.path), "no key for \(field.path)") }
    #expect(before.count > 40)
  }

  @Test("every value that a key may have can be written down and read again")
  func roundTrip() {
    for key in ScenarioKey.all {
      for value in Self.values(of: key) {
        #expect(key.value(key.text(value)) == value, "\(key.line(value))")
        var file = ScenarioFile(world: BuiltInWorld.nic.description)
        key.write(&file, value)
        #expect(key.read(file) == value, "\(key.name)")
      }
      if case .quantity(let unit, let range) = key.form {
        #expect(key.value(unit.text(range.upperBound + 1)) == nil, "\(key.name)")
      }
    }
    #expect(Set(ScenarioKey.all.map(\.name)).count == ScenarioKey.all.count)
  }

  @Test("a world that a person made by code is held to the same ranges")
  func problems() {
    var world = BuiltInWorld.nic.description
    world.nics = 0
    #expect(world.problem == "nics is 0: expected a whole number, 1 to 32")
    world = BuiltInWorld.nic.description
    world.retransmission.retries = -1
    #expect(world.problem?.hasPrefix("retries is ") == true)
    world = BuiltInWorld.nic.description
    world.channel.bytesPerMicrosecond = .max
    #expect(world.problem?.hasPrefix("channel-rate is ") == true)
    world = BuiltInWorld.nic.description
    world.channel.flips = [SimulatedLink.Flip(byte: 1, bit: 8)]
    #expect(world.problem == "a flip of a bit that no byte has: expected bit 0 to 7")
  }

  @Test("numbers are whole in the simulation's units, and nothing is rounded")
  func units() {
    #expect(ScenarioUnit.time.value("0.001 ms") == 1)
    #expect(ScenarioUnit.time.value("0.0001 ms") == nil)
    #expect(ScenarioUnit.time.value("1. ms") == nil)
    #expect(ScenarioUnit.time.value(".5 ms") == nil)
    #expect(ScenarioUnit.time.value("-5 ms") == nil)
    #expect(ScenarioUnit.time.value("٣ ms") == nil)
    #expect(ScenarioUnit.time.value("999999999999999999 s") == nil)
    #expect(ScenarioUnit.time.value("1.0000000000 s") == 1_000_000)
    #expect(ScenarioUnit.count.value("99999999999999999999") == nil)
    #expect(ScenarioUnit.count.value("1 us") == nil)
    #expect(ScenarioUnit.chance.value("0.0001%") == 1)
    #expect(ScenarioUnit.chance.text(123_400) == "12.34%")
    #expect(ScenarioUnit.rate.value("25 Gbit/s") == 3125)
    #expect(ScenarioUnit.rate.value("0.1 Gbit/s") == nil)
    #expect(ScenarioUnit.rate.text(12) == "96 Mbit/s")
    #expect(ScenarioUnit.bytes.text(3 << 20) == "3 MiB")
  }

  @Test("for an unknown word the nearest key is named, however odd the word")
  func nearest() {
    #expect(ScenarioKey.nearest("time-out") == "timeout")
    #expect(ScenarioKey.nearest("falut") == "fault")
    #expect(ScenarioKey.nearest("conections") == "connections")
    #expect(!ScenarioKey.nearest("").isEmpty)
    #expect(!ScenarioKey.nearest(String(repeating: "ö", count: 300)).isEmpty)
  }
}
