// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

extension LabTests {
  /// The commands on synthetic devices: of every make, behind an IOMMU of their own, by group and by node.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct SyntheticCommandTests {
    @Test("list and show know a device by its node, whatever its bus calls it")
    func look() throws {
      let device = try Synthetic("looked", ["iommu": "own"])
      defer { device.remove() }
      let list = try Lab.ferry(["list"])
      let line = list.out.split(separator: "\n").first { $0.hasPrefix(device.node) }
      #expect(line?.contains("running") == true, "\(list.out)")
      let show = try Lab.ferry(["show", "--json", device.node])
      let object = try #require(try JSONSerialization.jsonObject(with: Data(show.out.utf8)) as? [String: Any])
      #expect(object["state"] as? String == "running" && object["migratable"] as? Bool == true, "\(show.out)")
      #expect(try device.referee["resets"] == 1, "looking has bound it")
    }

    @Test("walk takes every arc of every make of device", arguments: MigrationFeatures.definedCombinations)
    func walk(features: MigrationFeatures) throws {
      let iommu = features.contains(.p2p) ? "own" : "emulated"
      let device = try Synthetic(
        "walked",
        ["migration": features.names.joined(separator: " "), "iommu": iommu, "state_bytes": "64K"])
      defer { device.remove() }
      let ended = try Lab.ferry(["walk", "--json", device.node])
      #expect(ended.status == 0, "\(ended.err)")
      let object = try #require(try JSONSerialization.jsonObject(with: Data(ended.out.utf8)) as? [String: Any])
      let steps = try #require(object["steps"] as? [[String: Any]])
      let arcs = Set(steps.map { "\($0["from"] ?? ""):\($0["asked"] ?? "")" })
      #expect(arcs == Set(StateGraph(features: features).arcs.map { "\($0.from):\($0.to)" }))
      #expect(object["state"] as? String == "running" && object["reset"] as? Bool == false)
      #expect(try device.referee["arcs_refused"] == 0 && device.referee["loads_refused"] == 0)
    }

    @Test("a device that is saved and loaded by its group, behind either IOMMU", arguments: Synthetic.IOMMU.allCases)
    func group(iommu: Synthetic.IOMMU) throws {
      let settings: KeyValuePairs = [
        "iommu": iommu.rawValue, "state_bytes": "64K", "bind_resets": "0", "close_resets": "0",
      ]
      let (source, target) = (try Synthetic("source", settings), try Synthetic("target", settings))
      defer {
        source.remove()
        target.remove()
      }
      let holder = try DeviceHolder(source.name, group: true)
      #expect(holder.ask("poke 0 0x10 0x5a5a 4") == "ok")
      holder.quit()
      let folder = try Lab.temporaryFolder()
      defer { try? FileManager.default.removeItem(at: folder) }
      let file = folder.appendingPathComponent("stream").path
      let saved = try Lab.ferry(["save", "--group", source.node, "-o", file])
      #expect(saved.status == 0, "\(saved.err)")
      let loaded = try Lab.ferry(["load", "--group", file, target.node, "--", "true"])
      #expect(loaded.status == 0, "\(loaded.err)")
      let other = try DeviceHolder(target.name, group: true)
      #expect(other.ask("peek 0 0x10 4") == "0x5a5a")
      other.quit()
      #expect(try target.digest == source.digest)
    }
  }
}
