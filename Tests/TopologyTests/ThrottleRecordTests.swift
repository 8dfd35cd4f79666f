// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

@testable import Topology

/// Records of what was throttled: written, read, and believed no further than they should be.
struct ThrottleRecordTests {
  private let cookie = Cookie.random()

  private func record(_ change: ThrottleRecord.Change? = nil) throws -> ThrottleRecord {
    ThrottleRecord(
      device: "0000:3b:00.1", process: try ProcessIdentity.current(),
      networkNamespace: try #require(ProcessIdentity.namespace("net")),
      change: change
        ?? .police(
          cookie,
          [
            .init(hook: .egress, interface: NetworkInterface(name: "enp59s0f0np0_0", index: 12), madeHooks: true),
            .init(hook: .ingress, interface: NetworkInterface(name: "p0", index: 3), madeHooks: false),
          ]))
  }

  private func folder() -> ThrottleFolder {
    ThrottleFolder(
      path: FileManager.default.temporaryDirectory.appendingPathComponent("throttles-\(UUID().uuidString)/inner").path)
  }

  /// Writes a record down as a process leaves it that is gone.
  private func leave(_ record: ThrottleRecord, in folder: ThrottleFolder) throws { _ = try folder.add(record) }

  @Test("a record is read as it was written")
  func roundTrip() throws {
    let port = DevlinkPort(bus: "pci", device: "0000:3b:00.0", number: 3)
    for record in [
      try record(), try record(.devlinkRate(port, before: 0, set: [12_500_000])),
      try record(.devlinkRate(port, before: .max, set: [1, 2])),
    ] { #expect(ThrottleRecord(Array(record.text.utf8)) == record) }
  }

  @Test("a record that is cut off, or has one byte changed, is not read as another process's or another place's")
  func damaged() throws {
    let record = try record()
    let bytes = Array(record.text.utf8)
    for count in 0..<bytes.count { #expect(ThrottleRecord(Array(bytes[..<count])) == nil) }
    for place in bytes.indices {
      for value in [0, 10, 32, 47, 0x7f, 0xff, bytes[place] ^ 1] as [UInt8] where value != bytes[place] {
        var changed = bytes
        changed[place] = value
        // What it still reads is exactly what such a record would be written as.
        if let read = ThrottleRecord(changed) { #expect(Array(read.text.utf8) == changed && read != record) }
      }
    }
  }

  @Test(
    "what no record says is refused",
    arguments: [
      ("egress 12", "egress -1"), ("egress 12", "egress 012"), ("egress 12", "egress 4294967296"),
      ("egress", "outgress"), (" made", " maid"), ("enp59s0f0np0_0", "../../etc"),
      ("enp59s0f0np0_0", "a-name-too-long-x"),
      ("throttle 1", "throttle 2"), ("end\n", "end\nend\n"), ("end\n", ""), ("device ", "device  "),
    ])
  func refused(part: String, other: String) throws {
    let text = try record().text
    #expect(text.contains(part))
    #expect(ThrottleRecord(Array(text.replacingOccurrences(of: part, with: other).utf8)) == nil)
    let many = "place egress 1 a made\n"
    #expect(
      ThrottleRecord(
        Array(text.replacingOccurrences(of: "end\n", with: String(repeating: many, count: 9) + "end\n").utf8))
        == nil)
  }

  @Test("a record that is held is left alone, in silence, whatever it has become; whose lock is gone is put back")
  func alive() throws {
    let folder = folder()
    let record = try record()
    var held: HeldText? = try folder.add(record)
    #expect(folder.putBackLeftovers(FakeNetwork()).isEmpty && folder.folder.names == [record.name])
    #expect(throws: SystemError("naming", "\(folder.path)/\(record.name)", errno: EEXIST)) { try folder.add(record) }
    held = try held.map { try folder.replace($0, with: record) }
    #expect(folder.putBackLeftovers(FakeNetwork()).isEmpty && folder.folder.names == [record.name])
    // A process with this one's number and start lives, and it is not the record's any more.
    #expect(held != nil)
    held = nil
    #expect(folder.putBackLeftovers(FakeNetwork()).count == 1 && folder.folder.names.isEmpty)
  }

  @Test("while one puts a record back another one leaves it alone, and so does one who comes late the next of its name")
  func twoCleaners() throws {
    let folder = folder()
    let rate = try record(.devlinkRate(DevlinkPort(bus: "pci", device: "0000:3b:00.0", number: 3), before: 0, set: [7]))
    try leave(rate, in: folder)
    let (network, other) = (FakeNetwork(), FakeNetwork())
    network.whenAsked = { #expect(folder.putBackLeftovers(other).isEmpty) }
    #expect(folder.putBackLeftovers(network).count == 1 && other.asked.isEmpty && folder.folder.names.isEmpty)
    // It is replaced by the next one's while it is claimed.
    let held = try folder.add(rate)
    #expect(try folder.folder.claim(rate.name) == nil)
    held.remove()
    #expect(try folder.folder.claim(rate.name) == nil)
    let next = try folder.add(rate)
    held.remove()
    #expect(folder.folder.names == [rate.name])
    next.remove()
    #expect(folder.folder.names.isEmpty)
  }

  @Test("a folder that is absent or empty says nothing")
  func nothing() throws {
    let folder = folder()
    #expect(folder.putBackLeftovers(FakeNetwork()).isEmpty && !folder.folder.exists)
    try folder.folder.make()
    #expect(folder.putBackLeftovers(FakeNetwork()).isEmpty)
  }

  @Test("a folder that others can write in is not believed")
  func notPrivate() throws {
    let folder = folder()
    let record = try record()
    try leave(record, in: folder)
    try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: folder.path)
    let network = FakeNetwork()
    #expect(folder.putBackLeftovers(network).first?.contains("can be changed by others") == true)
    #expect(network.asked.isEmpty && folder.folder.names.count == 1)
    #expect(throws: SystemError.self) { try leave(record, in: folder) }
  }

  @Test("what stands in a record's place is left alone, with a line for each, and nothing is asked of the kernel")
  func strangers() throws {
    let folder = folder()
    let record = try record()
    try folder.folder.make()
    // A record under another's name, too much, nothing, a link, a folder, a record that others could have written.
    _ = try folder.folder.add("police-other", record.text, temporary: "x")
    _ = try folder.folder.add("large", String(repeating: "x", count: ThrottleRecord.maximumSize + 1), temporary: "x")
    _ = try folder.folder.add("empty", "", temporary: "x")
    _ = try folder.folder.add("shared", record.text, temporary: "x")
    try FileManager.default.setAttributes([.posixPermissions: 0o666], ofItemAtPath: "\(folder.path)/shared")
    try FileManager.default.createSymbolicLink(
      atPath: "\(folder.path)/\(record.name)", withDestinationPath: "police-other")
    try FileManager.default.createDirectory(atPath: "\(folder.path)/folder", withIntermediateDirectories: false)
    let network = FakeNetwork()
    let lines = folder.putBackLeftovers(network)
    #expect(lines.count == 6 && lines.allSatisfy { $0.contains("left alone") }, "\(lines)")
    #expect(network.asked.isEmpty && folder.folder.names.count == 6)
  }

  @Test("a record from before the machine was started again is removed, and nothing is asked of the kernel")
  func earlierBoot() throws {
    let folder = folder()
    var record = try record()
    record.process.boot = "another"
    try leave(record, in: folder)
    let network = FakeNetwork()
    #expect(folder.putBackLeftovers(network).first?.contains("started again") == true)
    #expect(network.asked.isEmpty && folder.folder.names.isEmpty)
  }

  @Test("a record of another network namespace is left alone, with what to do about it")
  func namespaces() throws {
    let folder = folder()
    var record = try record()
    record.networkNamespace += 1
    try leave(record, in: folder)
    let network = FakeNetwork()
    #expect(folder.putBackLeftovers(network).first?.contains("another network namespace") == true)
    #expect(network.asked.isEmpty && folder.folder.names.count == 1)
  }

  @Test("a record whose interface or filter is gone is removed; one that can't be put back stays, with the reason")
  func outcomes() throws {
    let folder = folder()
    let record = try record()
    try leave(record, in: folder)
    let network = FakeNetwork()
    network.error = NetlinkError(errno: .busy, words: "not now")
    #expect(folder.putBackLeftovers(network).first?.contains("EBUSY, \"not now\"") == true)
    #expect(folder.folder.names.count == 1)
    network.error = NetlinkError(errno: .noLibrary, words: "")
    #expect(folder.putBackLeftovers(network).first?.contains("install libnl") == true)
    network.error = NetlinkError(errno: .noDevice, words: "")
    #expect(folder.putBackLeftovers(network).first?.contains("is gone") == true)
    #expect(folder.folder.names.isEmpty)
  }

  @Test("what was half written when its process ended is removed, and what one is writing is not")
  func unfinished() throws {
    let folder = folder()
    try folder.folder.make()
    let held = try folder.folder.add("police-x.1-1.new", "vfio", temporary: "x")
    _ = try folder.folder.add("police-x.1-2.new", "vfio", temporary: "x")
    #expect(folder.putBackLeftovers(FakeNetwork()).isEmpty)
    #expect(folder.folder.names == ["police-x.1-1.new"])
    held.remove()
  }
}

/// A kernel that has no interface, or one error for everything.
final class FakeNetwork: NetworkControl, @unchecked Sendable {
  var error: NetlinkError?
  /// What happens meanwhile.
  var whenAsked: () -> Void = {}
  private(set) var asked: [String] = []

  private func ask<Answer>(_ request: String, _ answer: Answer) throws(NetlinkError) -> Answer {
    asked.append(request)
    whenAsked()
    if let error { throw error }
    return answer
  }

  func hooks(of interface: Int32) throws(NetlinkError) -> HookHolder? { try ask("hooks", nil) }
  func addClsact(to interface: Int32) throws(NetlinkError) { try ask("add", ()) }
  func removeClsact(from interface: Int32) throws(NetlinkError) { try ask("remove", ()) }
  func survey(_ hook: TrafficHook, of interface: Int32, for cookie: Cookie) throws(NetlinkError) -> HookSurvey {
    try ask("survey", HookSurvey(own: nil, others: 0, kin: 0, freePreference: 1, firstOther: nil))
  }
  func add(
    _ rule: PoliceRule, at hook: TrafficHook, of interface: Int32, preference: UInt16
  ) throws(NetlinkError) { try ask("add filter", ()) }
  func remove(_ filter: HookSurvey.Own, at hook: TrafficHook, of interface: Int32) throws(NetlinkError) {
    try ask("remove filter", ())
  }
  func replace(police number: UInt32, with rate: PoliceRate, redirects: Bool) throws(NetlinkError) {
    try ask("replace", ())
  }
  func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32 {
    try ask("port \(bus)/\(device) \(number)", 7)
  }
  func rate(of port: DevlinkPort) throws(NetlinkError) -> UInt64 { try ask("rate", 0) }
  func setRate(of port: DevlinkPort, _ bytesPerSecond: UInt64) throws(NetlinkError) { try ask("set", ()) }
}
