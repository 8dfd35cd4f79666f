// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing
import VFIO

extension LabTests {
  /// Images of synthetic devices: large ones arrive whole, and a careful device takes no other.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct ImageTests {
    @Test("1 GiB of state that is rewritten all the while moves between two processes, and the digests are the same")
    func large() throws {
      let settings: KeyValuePairs = ["state_bytes": "1G", "state_seed": "4711", "state_rate": "2000"]
      let source = try Synthetic("large", settings)
      defer { source.remove() }
      let target = try Synthetic("large", settings)
      defer { target.remove() }
      let (holder, other) = (try DeviceHolder(source.node), try DeviceHolder(target.node))
      defer {
        holder.quit()
        other.quit()
      }
      try source.set("activity", "state")
      let began = try source.referee["state_position"]

      let stream = Pipe()
      let said = Pipe()
      let save = Process()
      save.executableURL = Lab.ferryProgram
      save.arguments = ["save", source.node, "--pid", "\(holder.pid)", "--force", "--keep-stopped", "-o", "-"]
      save.standardOutput = stream
      save.standardError = said
      try save.run()
      let load = Process()
      load.executableURL = save.executableURL
      load.arguments = ["load", "-", target.node, "--pid", "\(other.pid)", "--force", "--keep-stopped"]
      load.standardInput = stream
      load.standardOutput = FileHandle.nullDevice
      try load.run()
      load.waitUntilExit()
      #expect(load.terminationStatus == 0)
      var text = ""
      while !text.contains("holding") {
        let data = said.fileHandleForReading.availableData
        if data.isEmpty { break }
        text += String(decoding: data, as: UTF8.self)
      }

      #expect(try source.state == .stop && target.state == .stop)
      let rewritten = try source.referee["state_position"]
      #expect(rewritten > began)
      #expect(try target.referee["state_position"] == rewritten)
      #expect(try target.referee["loads_verified"] == 1)
      #expect(try source.digest == target.digest)
      kill(save.processIdentifier, SIGTERM)
      save.waitUntilExit()
    }

    /// A whole image of a fresh device with these settings, and the digest of its state.
    private func image(_ settings: KeyValuePairs<String, String>) throws -> (bytes: [UInt8], digest: String) {
      let source = try Synthetic("source", settings)
      defer { source.remove() }
      var pairs = try StatePairs(source)
      return (try pairs.image(), try source.digest)
    }

    /// Writes an image into a device and asks it for STOP.
    /// - Parameter mayRefuse: whether the device may take less than all of it. What it did take is to be judged then.
    private func load(_ image: [UInt8], into pairs: inout StatePairs, mayRefuse: Bool = false) throws {
      try pairs.reset()
      try pairs.go(to: .resuming)
      let data = try #require(pairs.data)
      do {
        if !image.isEmpty { try data.write(image.span) }
      } catch {
        if !mayRefuse { throw error }
      }
      _ = try pairs.device.setMigrationState(.stop)
    }

    /// Expects a careful device to refuse an image for one of these reasons, and to stay where it was.
    private func expectRefused(
      _ image: [UInt8], by device: Synthetic, _ pairs: inout StatePairs, because reasons: Set<String>,
      _ what: Comment
    ) throws {
      try device.resetReferee()
      #expect(throws: DeviceError(.setState(.stop), .errno(.invalidArgument)), what) {
        try load(image, into: &pairs, mayRefuse: true)
      }
      #expect(try device.state == .resuming, what)
      let referee = try device.referee
      #expect(referee["loads_refused"] == 1 && referee["loads_verified"] == 0, what)
      let reason = referee.text("refused_because") ?? ""
      #expect(reasons.contains(reason), "\(what): \(reason)")
    }

    @Test("a byte flipped anywhere in an image is refused", arguments: Synthetic.IOMMU.allCases)
    func flipped(iommu: Synthetic.IOMMU) throws {
      let settings: KeyValuePairs = ["state_bytes": "16K", "iommu": iommu.rawValue, "id": "9"]
      let good = try image(settings)
      let target = try Synthetic("target", settings)
      defer { target.remove() }
      var pairs = try StatePairs(target)
      let any: Set = ["version", "identity", "length", "digest"]
      let step = max(1, good.bytes.count / 200)
      for place in Array(0..<64) + Array(stride(from: 64, to: good.bytes.count, by: step)) + [good.bytes.count - 1] {
        var bad = good.bytes
        bad[place] ^= 0x10
        try expectRefused(bad, by: target, &pairs, because: any, "byte \(place) of \(bad.count)")
      }
      // The same bytes without the flip are taken: it was the flip.
      try load(good.bytes, into: &pairs)
      #expect(try target.digest == good.digest)
      #expect(try target.referee["loads_verified"] == 1)
    }

    @Test("an image that is cut off anywhere is refused for its length, and what follows its end is not taken")
    func length() throws {
      let good = try image(["state_bytes": "16K"])
      let target = try Synthetic("target", ["state_bytes": "16K"])
      defer { target.remove() }
      var pairs = try StatePairs(target)
      for length in [0, 1, 8, 100, 4096, good.bytes.count / 2, good.bytes.count - 1] {
        try expectRefused(
          Array(good.bytes[..<length]), by: target, &pairs, because: ["length"], "cut off after \(length)")
      }
      // What comes after the end is not taken at all.
      #expect(throws: DeviceError(.writeData, .errno(.invalidArgument))) { try load(good.bytes + [0], into: &pairs) }
    }

    @Test(
      "an image of another version, another device or another size is refused, and the referee tells why",
      arguments: [("version", "2", "version"), ("id", "2", "identity"), ("state_bytes", "32K", "length")])
    func mismatch(setting: String, value: String, reason: String) throws {
      let other = try image(["state_bytes": "16K", "id": "1", setting: value])
      let target = try Synthetic("target", ["state_bytes": "16K", "id": "1"])
      defer { target.remove() }
      var pairs = try StatePairs(target)
      try expectRefused(other.bytes, by: target, &pairs, because: [reason], "\(setting)")
    }

    @Test("a careless device takes what a careful one refuses")
    func careless() throws {
      let good = try image(["state_bytes": "16K"])
      var flipped = good.bytes
      flipped[flipped.count / 2] ^= 1
      let target = try Synthetic("target", ["state_bytes": "16K", "load": "careless"])
      defer { target.remove() }
      var pairs = try StatePairs(target)
      for (image, what) in [
        (flipped, "flipped"), (Array(good.bytes[..<(good.bytes.count / 2)]), "cut off"),
        (try image(["state_bytes": "16K", "version": "2"]).bytes, "another version"),
        (try image(["state_bytes": "16K", "id": "7"]).bytes, "another device"),
      ] {
        try target.resetReferee()
        try load(image, into: &pairs)
        #expect(try target.state == .stop, "\(what)")
        #expect(try target.referee["loads_careless"] == 1, "\(what)")
        #expect(try target.referee["loads_refused"] == 0, "\(what)")
        if what == "flipped" { #expect(try target.digest != good.digest) }
        _ = try pairs.device.setMigrationState(.running)
      }
    }

    @Test("registers and the generators' positions travel with the state")
    func registers() throws {
      let settings: KeyValuePairs = [
        "state_bytes": "64K", "state_rate": "2000", "dma_rate": "2000", "dma_ranges": "0x100000+64K",
      ]
      let (source, target) = (try Synthetic("source", settings), try Synthetic("target", settings))
      defer {
        source.remove()
        target.remove()
      }
      let (holder, other) = (try DeviceHolder(source.node), try DeviceHolder(target.node))
      defer {
        holder.quit()
        other.quit()
      }
      #expect(holder.ask("poke 0 0x10 0x1122334455667788 8") == "ok")
      #expect(holder.ask("poke 0 0x4c 0x99aabbcc 4") == "ok")
      try source.set("activity", "dma state")
      try Lab.wait(until: "the generators moved") {
        let referee = try source.referee
        return referee["dma_position"] > 100 && referee["state_position"] > 100
      }
      // The interrupts' bit alone: the generators stand still from here on, and there is something in the register.
      try source.set("activity", "interrupts")
      let folder = try Lab.temporaryFolder()
      defer { try? FileManager.default.removeItem(at: folder) }
      let file = folder.appendingPathComponent("stream").path
      let saved = try Lab.ferry(["save", source.node, "--pid", "\(holder.pid)", "--force", "-o", file])
      #expect(saved.status == 0, "\(saved.err)")
      let loaded = try Lab.ferry(["load", file, target.node, "--pid", "\(other.pid)", "--force"])
      #expect(loaded.status == 0, "\(loaded.err)")
      for register in ["0x08 4", "0x10 8", "0x18 8", "0x4c 4", "0x50 8", "0x58 8"] {
        #expect(other.ask("peek 0 \(register)") == holder.ask("peek 0 \(register)"), "\(register)")
      }
      #expect(other.ask("peek 0 0x08 4") == "0x08")
      #expect(try target.referee["dma_position"] == source.referee["dma_position"])
      #expect(try target.referee["state_position"] == source.referee["state_position"])
      #expect(try target.digest == source.digest)
    }
  }
}
