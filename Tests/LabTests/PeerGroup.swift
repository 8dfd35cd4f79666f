// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

/// Synthetic devices of one VM that write into each other's mailboxes. One process holds them all, as a VMM does.
final class PeerGroup {
  let shape: GroupShape
  let devices: [Synthetic]
  private(set) var holder: DeviceHolder?

  /// - Parameters:
  ///   - rate: how often a second a device writes to each of those that it writes to. By default about as much in all as
  ///     the lab's processors carry without being busy with nothing else.
  ///   - settings: what all of them have besides.
  init(_ name: String, _ shape: GroupShape, rate: Int? = nil, _ settings: KeyValuePairs<String, String> = [:]) throws {
    self.shape = shape
    let rate = rate ?? max(200, 10_000 / shape.links.count)
    var made: [Synthetic] = []
    do {
      for (index, features) in shape.features.enumerated() {
        // One of each kind, as a VM may have them.
        let iommu = index % 2 == 0 ? Synthetic.IOMMU.emulated : .own
        let device = try Synthetic(
          name,
          [
            "id": "\(index + 1)", "iommu": iommu.rawValue, "group": name, "state_bytes": "64K",
            "migration": features.names.joined(separator: " "),
          ])
        made.append(device)
        for (setting, value) in settings { try device.set(setting, value) }
      }
      for (index, device) in made.enumerated() {
        let targets = shape.links.filter { $0.from == index }.map { "\(made[$0.to].name) \(rate)" }
        try device.set("peers", targets.joined(separator: "\n"))
      }
    } catch {
      for device in made { device.remove() }
      throw error
    }
    devices = made
  }

  /// Each to the next one round: two of them are a pair, three a ring.
  convenience init(
    _ name: String, count: Int, rate: Int = 5000, _ settings: KeyValuePairs<String, String> = [:]
  ) throws {
    try self.init(name, .ring(count), rate: rate, settings)
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

  /// What `save` and `load` have to be told of the group's links.
  var linkOptions: [String] {
    shape.declaredMissing.flatMap { ["--no-link", "\(nodes[$0.from]),\(nodes[$0.to])"] }
  }

  /// Asks the holder for one thing on one device.
  func ask(_ index: Int, _ line: String) throws -> String {
    let holder = try #require(holder)
    #expect(holder.ask("use \(index)") == "ok")
    return holder.ask(line)
  }

  func referees() throws -> [Referee] { try devices.map { try $0.referee } }

  func resetReferees() throws { for device in devices { try device.resetReferee() } }

  /// Waits until every device that is written to has received that many more writes.
  func waitUntilReceived(_ more: Int) throws {
    let before = try referees().map { $0["peer_received"] }
    for (index, device) in devices.enumerated() where shape.links.contains(where: { $0.to == index }) {
      try Lab.wait(until: "\(device.name) received \(more) writes") {
        try device.referee["peer_received"] >= before[index] + more
      }
    }
  }

  /// Waits until every device has heard of all that write to it, and has the referee count from there: where a sender is
  /// first heard of, counting begins anew.
  func getAcquainted() throws {
    for (index, device) in devices.enumerated() {
      let senders = shape.links.filter { $0.to == index }.count
      try Lab.wait(until: "\(device.name) heard of all") { try device.referee["peer_new_links"] >= senders }
    }
    try resetReferees()
  }

  /// Saves the devices of one process into those of another, with two processes and a pipe between them.
  func move(to target: PeerGroup) throws {
    let ferry = Lab.ferryProgram.path
    func arguments(_ group: PeerGroup) throws -> String {
      let options = ["--pid", "\(try #require(group.holder).pid)", "--force"] + group.linkOptions
      return (group.nodes + options).joined(separator: " ")
    }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = [
      "-c",
      """
      set -o pipefail
      '\(ferry)' save \(try arguments(self)) -o - | '\(ferry)' load - \(try arguments(target))
      """,
    ]
    let said = Pipe()
    process.standardOutput = said
    process.standardError = said
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let text = String(decoding: said.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    try #require(process.terminationStatus == 0, "\(text)")
  }
}
