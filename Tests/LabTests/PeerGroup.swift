// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

/// Synthetic devices of one VM that write into each other's mailboxes, each to the next one round: two of them are a
/// pair, three a ring. One process holds them all, as a VMM does.
final class PeerGroup {
  let devices: [Synthetic]
  private(set) var holder: DeviceHolder?

  /// - Parameters:
  ///   - rate: how often a second each device writes to the next.
  ///   - settings: what all of them have besides.
  init(_ name: String, count: Int, rate: Int = 5000, _ settings: KeyValuePairs<String, String> = [:]) throws {
    var made: [Synthetic] = []
    do {
      for id in 1...count {
        // One of each kind, as a VM may have them.
        let iommu = id % 2 == 0 ? Synthetic.IOMMU.own : .emulated
        let device = try Synthetic(
          name, ["id": "\(id)", "iommu": iommu.rawValue, "group": name, "state_bytes": "64K"])
        made.append(device)
        for (setting, value) in settings { try device.set(setting, value) }
      }
      for (index, device) in made.enumerated() {
        try device.set("peers", "\(made[(index + 1) % count].name) \(rate)")
      }
    } catch {
      for device in made { device.remove() }
      throw error
    }
    devices = made
  }

  /// Has a process hold the devices from now on; without activity they are idle.
  func open(activity: String? = nil) throws {
    holder = try DeviceHolder(devices.map(\.node))
    if let activity { for device in devices { try device.set("activity", activity) } }
  }

  func remove() {
    holder?.quit()
    holder = nil
    for device in devices { device.remove() }
  }

  var nodes: [String] { devices.map(\.node) }

  /// Asks the holder for one thing on one device.
  func ask(_ index: Int, _ line: String) throws -> String {
    let holder = try #require(holder)
    #expect(holder.ask("use \(index)") == "ok")
    return holder.ask(line)
  }

  func referees() throws -> [Referee] { try devices.map { try $0.referee } }

  func resetReferees() throws { for device in devices { try device.resetReferee() } }

  /// Waits until every device has received that many more writes.
  func waitUntilReceived(_ more: Int) throws {
    let before = try referees().map { $0["peer_received"] }
    for (device, count) in zip(devices, before) {
      try Lab.wait(until: "\(device.name) received \(more) writes") {
        try device.referee["peer_received"] >= count + more
      }
    }
  }
}
