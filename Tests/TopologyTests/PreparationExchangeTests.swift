// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Synchronization
import Testing

@testable import Topology

/// A described ConnectX that is spoken to over netlink: each request must be one that the written exchange has, byte by byte.
/// It takes effect on the switch and its ports, and the answer is the written one, with what is so by then in its fields.
private final class SpokenConnectX: NetlinkConversation {
  let family: Int32 = 28
  private let network: DescribedConnectX.Network
  /// Requests as they are written, each with its answers: of those that are written twice, the last.
  private let exchanges: [(request: WrittenConversation.Message, answers: [WrittenConversation.Message])]
  private let course = Mutex(Course())

  struct Course {
    var answers: [[UInt8]] = []
    /// What was told to the NIC, by the titles of the written requests; questions are not among it.
    var changes: [String] = []
    /// What the exchange does not have, and what the NIC refused.
    var complaints: [String] = []
  }
  var said: Course { course.withLock { $0 } }

  init(_ network: DescribedConnectX.Network) throws {
    self.network = network
    var exchanges: [(request: WrittenConversation.Message, answers: [WrittenConversation.Message])] = []
    for message in try WrittenConversation.messages(of: "connectx") {
      if message.isRequest {
        exchanges.append((message, []))
      } else {
        exchanges[exchanges.count - 1].answers.append(message)
      }
    }
    self.exchanges = exchanges
  }

  func take(request: [UInt8]) {
    guard let (written, answers) = exchanges.last(where: { $0.request.isSame(as: request) }) else {
      return course.withLock { course in
        course.answers = []
        course.complaints.append("not in the exchange: \(WrittenConversation.hexadecimal(request))")
      }
    }
    let title = String(written.title.dropFirst(2))
    var complaint: String?
    do throws(NetlinkError) { try act(on: title) } catch { complaint = "\(title): \(error)" }
    let bytes = answers.compactMap { filled($0.title, $0.bytes(answering: request)) }
    course.withLock { course in
      course.answers = bytes
      if !title.hasSuffix("?") { course.changes.append(title) }
      if let complaint { course.complaints.append(complaint) }
    }
  }

  func answer() -> [UInt8]? { course.withLock { $0.answers.isEmpty ? nil : $0.answers.removeFirst() } }

  /// What the NIC does on a request.
  private func act(on title: String) throws(NetlinkError) {
    let name = DescribedConnectX.name
    let port = DevlinkPort(bus: "pci", device: name, number: 1)
    switch title {
    case "switchdev, please": try network.setSwitchMode(bus: "pci", device: name, .switchdev)
    case "legacy, please": try network.setSwitchMode(bus: "pci", device: name, .legacy)
    case "function 0 has this address from now on":
      try network.setAddress(of: port, MACAddress("02:00:5e:00:00:11")!)
    case "function 0 has no address of the host's any more":
      try network.setAddress(of: port, MACAddress("00:00:00:00:00:00")!)
    case "function 0 is migratable from now on": try network.setMigratable(of: port, true)
    case "function 0 is not migratable any more": try network.setMigratable(of: port, false)
    default: break
    }
  }

  /// An answer with what is so now; nil for that of a function that is not there.
  private func filled(_ title: String, _ bytes: [UInt8]) -> [UInt8]? {
    var bytes = bytes
    let now = network.current
    switch title {
    case "< legacy":
      // DEVLINK_ATTR_ESWITCH_MODE (25), two bytes.
      put([now.mode == .switchdev ? 1 : 0, 0], after: [6, 0, 25, 0], in: &bytes)
    case "< function 0":
      guard now.mode == .switchdev, now.count > 0 else { return nil }
      // DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR (1), six bytes; DEVLINK_PORT_FN_ATTR_CAPS (4), of which bit 1 is CAP_MIGRATABLE.
      put(now.ports[0].mac, after: [10, 0, 1, 0], in: &bytes)
      put([now.ports[0].isMigratable ? 3 : 1], after: [12, 0, 4, 0], in: &bytes)
    case let title where title.hasPrefix("< function 1"):
      guard now.mode == .switchdev, now.count > 1 else { return nil }
    default: break
    }
    return bytes
  }

  private func put(_ value: [UInt8], after header: [UInt8], in bytes: inout [UInt8]) {
    guard let place = (0..<bytes.count - header.count).last(where: { bytes[$0...].starts(with: header) }) else {
      Issue.record("no attribute \(header)")
      return
    }
    bytes.replaceSubrange(place + header.count..<place + header.count + value.count, with: value)
  }
}

/// Devlink over the conversation; what only the interfaces tell comes from the NIC as it is described.
private struct SpokenNetwork: NetworkPreparation {
  let devlink: KernelNetwork
  let described: DescribedConnectX.Network

  func switchMode(bus: String, device: String) throws(NetlinkError) -> SwitchMode? {
    try devlink.switchMode(bus: bus, device: device)
  }
  func setSwitchMode(bus: String, device: String, _ mode: SwitchMode) throws(NetlinkError) {
    try devlink.setSwitchMode(bus: bus, device: device, mode)
  }
  func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32 {
    try devlink.port(ofFunction: number, bus: bus, device: device)
  }
  func address(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> [UInt8] {
    try devlink.address(ofFunction: number, bus: bus, device: device)
  }
  func setAddress(of port: DevlinkPort, _ address: MACAddress) throws(NetlinkError) {
    try devlink.setAddress(of: port, address)
  }
  func isMigratable(function number: UInt16, bus: String, device: String) throws(NetlinkError) -> Bool {
    try devlink.isMigratable(function: number, bus: bus, device: device)
  }
  func setMigratable(of port: DevlinkPort, _ isMigratable: Bool) throws(NetlinkError) {
    try devlink.setMigratable(of: port, isMigratable)
  }
  func link(ofFunction number: UInt16, interface: Int32) throws(NetlinkError) -> FunctionLink {
    try described.link(ofFunction: number, interface: interface)
  }
  func setAddress(ofFunction number: UInt16, interface: Int32, _ address: MACAddress) throws(NetlinkError) {
    try described.setAddress(ofFunction: number, interface: interface, address)
  }
  func firmware(bus: String, device: String) throws(NetlinkError) -> String {
    try described.firmware(bus: bus, device: device)
  }
  func rules(at places: SwitchRulePlaces) throws(NetlinkError) -> [SwitchRules] { try described.rules(at: places) }
}

@Suite("Preparing a described ConnectX that is spoken to over netlink")
struct PreparationExchangeTests {
  @Test(
    "a function is prepared, found prepared, and taken back by the written messages and no other, in the order that mlx5 wants"
  )
  func whole() throws {
    var spoken: SpokenConnectX?
    let nic = try DescribedConnectX { network in
      let conversation = try SpokenConnectX(network)
      spoken = conversation
      return SpokenNetwork(devlink: KernelNetwork(conversation: conversation), described: network)
    }
    let conversation = try #require(spoken)
    let before = try nic.state()
    let wish = PreparationWish(
      functions: 1, switchMode: .switchdev, addresses: [try #require(MACAddress("02:00:5e:00:00:11"))])
    _ = try nic.preparation.prepare(wish, dryRun: false) { _ in }
    #expect(try nic.state().contains("port 0 02:00:5e:00:00:11 true"))
    #expect(try nic.state().contains("0000:3b:00.2 mlx5_vfio_pci mlx5_vfio_pci"))
    _ = nic.takeWrites()
    _ = try nic.preparation.prepare(wish, dryRun: false) { _ in }
    #expect(nic.takeWrites().isEmpty)
    _ = try nic.preparation.undo(announce: { _ in }, note: { _ in })
    #expect(try nic.state() == before)
    let said = conversation.said
    #expect(said.complaints.isEmpty, "\(said.complaints.joined(separator: "\n"))")
    #expect(
      said.changes == [
        "switchdev, please", "function 0 has this address from now on", "function 0 is migratable from now on",
        "function 0 is not migratable any more", "function 0 has no address of the host's any more", "legacy, please",
      ])
  }
}
