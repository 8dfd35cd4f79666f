// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

extension LabTests {
  /// What a VMM and a guest's driver find of a synthetic device: a PCI function, with registers and an interrupt.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct FunctionTests {
    private func withDevice(
      _ settings: KeyValuePairs<String, String> = [:], _ body: (Synthetic, DeviceHolder) throws -> Void
    ) throws {
      let device = try Synthetic("function", settings)
      defer { device.remove() }
      let holder = try DeviceHolder(device.node)
      defer { holder.quit() }
      try body(device, holder)
    }

    @Test("the configuration space says what the settings say, and sizes its BAR as guests do")
    func configuration() throws {
      try withDevice(["pci_id": "15b3:101e", "pci_class": "0x030200"]) { (_: Synthetic, holder: DeviceHolder) throws in
        #expect(holder.ask("peek 7 0x00 4") == "0x101e15b3")
        #expect(holder.ask("peek 7 0x0a") == "0x02" && holder.ask("peek 7 0x0b") == "0x03")
        // A normal header, one memory BAR of 64 KiB, and one MSI vector.
        #expect(holder.ask("peek 7 0x0e") == "0x00")
        for bar in stride(from: 0x10, through: 0x24, by: 4) {
          #expect(holder.ask("poke 7 \(bar) 0xffffffff 4") == "ok")
          #expect(holder.ask("peek 7 \(bar) 4") == (bar == 0x10 ? "0xffff0000" : "0x00"))
        }
        let capability = try #require(UInt8(holder.ask("peek 7 0x34").dropFirst(2), radix: 16))
        #expect(holder.ask("peek 7 \(capability)") == "0x05")
        let control = try #require(UInt8(holder.ask("peek 7 \(capability + 2)").dropFirst(2), radix: 16))
        #expect(control & 0x0e == 0, "more than one vector")
      }
    }

    @Test("registers are what the data sheet says")
    func registers() throws {
      try withDevice(["id": "63"]) { (device: Synthetic, holder: DeviceHolder) throws in
        #expect(holder.ask("peek 0 0x00 8") == "0x14e595356")
        #expect(holder.ask("peek 0 0x0c 4") == "0x3f")
        for place in stride(from: 0x10, to: 0x50, by: 4) { #expect(holder.ask("poke 0 \(place) \(place) 4") == "ok") }
        for place in stride(from: 0x10, to: 0x50, by: 4) {
          #expect(holder.ask("peek 0 \(place) 4") == "0x" + String(place, radix: 16))
        }
        // What is read-only stays.
        #expect(holder.ask("poke 0 0x00 7 4") == "ok" && holder.ask("peek 0 0x00 4") == "0x4e595356")
        #expect(holder.ask("poke 0 0x50 7 8") == "ok" && holder.ask("peek 0 0x50 8") == "0x00")
        #expect(holder.ask("poke 0 0x08 5 4") == "ok")
        #expect(try device.referee.text("activity") == "peers state")
        #expect(try device.get("activity") == "peers state")
      }
    }

    @Test("the doorbell raises the interrupt if the control register lets it, and after a reset it does not")
    func doorbell() throws {
      try withDevice { (device: Synthetic, holder: DeviceHolder) throws in
        #expect(holder.ask("arm") == "ok")
        #expect(holder.ask("poke 0 0x60 1 4") == "ok")
        #expect(holder.ask("interrupts") == "0")
        try device.set("activity", "interrupts")
        for _ in 1...3 { #expect(holder.ask("poke 0 0x60 1 4") == "ok") }
        #expect(holder.ask("interrupts") == "3")
        #expect(holder.ask("reset") == "ok")
        #expect(holder.ask("poke 0 0x60 1 4") == "ok")
        #expect(holder.ask("interrupts") == "0")
      }
    }

    @Test("what after_reset names starts by itself: after opening, and after every reset")
    func afterReset() throws {
      try withDevice(["after_reset": "state", "state_rate": "1000"]) { device, holder in
        for _ in 1...2 {
          #expect(holder.ask("peek 0 0x08 4") == "0x04")
          try Lab.wait(until: "pages were rewritten") { try device.referee["state_position"] > 3 }
          #expect(holder.ask("reset") == "ok")
        }
      }
    }

    @Test("a device of a given seed holds what can be recomputed, and so it does after pages were rewritten")
    func content() throws {
      func mix(_ number: UInt64) -> UInt64 {
        var z = (number ^ number >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
      }
      func digest(keys: [UInt64]) -> String {
        var sum: UInt64 = 0
        for (page, key) in keys.enumerated() {
          var hash = mix(UInt64(page) + 1)
          for word in 0..<512 {
            hash = (hash ^ mix(key &+ UInt64(word))) &* 0x9e37_79b9_7f4a_7c15
            hash ^= hash >> 32
          }
          sum &+= hash
        }
        return String(sum, radix: 16)
      }
      let (seed, pages) = (UInt64(4711), UInt64(16))
      try withDevice(["state_seed": "\(seed)", "state_bytes": "64K", "state_rate": "200"]) { device, holder in
        var keys = (0..<pages).map { mix(mix(seed ^ $0)) }
        #expect(try device.digest.drop { $0 == "0" } == digest(keys: keys))
        try device.set("activity", "state")
        try Lab.wait(until: "pages were rewritten") { try device.referee["state_position"] > 20 }
        // It ends when the device has stopped, not before.
        #expect(holder.ask("set stop") == "ok")
        let position = try device.referee["state_position"]
        for n in 1...UInt64(position) {
          let page = mix(seed &+ n) % pages
          keys[Int(page)] = mix(mix(seed ^ page) &+ n)
        }
        #expect(try device.referee["state_position"] == position)
        #expect(try device.digest.drop { $0 == "0" } == digest(keys: keys))
      }
    }
  }
}
