// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Testing
import TopologyFixtures

@testable import Topology

@Suite("Preparing a described ConnectX, and the way back")
struct PreparationTests {
  private let nic: DescribedConnectX
  private let sysfs = "/sys/bus/pci/devices"
  private let wish: PreparationWish

  init() throws {
    nic = try DescribedConnectX()
    wish = PreparationWish(
      functions: 2, switchMode: .switchdev, addresses: [try #require(MACAddress("02:00:5e:00:00:11"))])
  }

  private func prepare(_ wish: PreparationWish? = nil, dryRun: Bool = false) throws -> [String] {
    var lines: [String] = []
    _ = try nic.preparation.prepare(wish ?? self.wish, dryRun: dryRun) { lines.append($0) }
    return lines.map { $0.components(separatedBy: nic.host.folder.path).joined() }
  }

  private func undo() throws -> Preparation.Outcome { try nic.preparation.undo(announce: { _ in }, note: { _ in }) }
  private var records: [String] { PreparationFolder(root: nic.host.root).folder.names }

  @Test("new functions are made after the switch's mode and before no driver can take them, and are bound last")
  func order() throws {
    let written = try prepare()
    #expect(
      written == [
        "devlink dev eswitch set pci/0000:3b:00.0 mode switchdev",
        "echo 0 > \(sysfs)/0000:3b:00.0/sriov_drivers_autoprobe",
        "echo 2 > \(sysfs)/0000:3b:00.0/sriov_numvfs",
        "devlink port function set pci/0000:3b:00.0/1 hw_addr 02:00:5e:00:00:11",
        "devlink port function set pci/0000:3b:00.0/1 migratable enable",
        "echo mlx5_vfio_pci > \(sysfs)/0000:3b:00.2/driver_override",
        "echo 0000:3b:00.2 > /sys/bus/pci/drivers/mlx5_vfio_pci/bind",
        "devlink port function set pci/0000:3b:00.0/2 migratable enable",
        "echo mlx5_vfio_pci > \(sysfs)/0000:3b:00.3/driver_override",
        "echo 0000:3b:00.3 > /sys/bus/pci/drivers/mlx5_vfio_pci/bind",
        "echo 1 > \(sysfs)/0000:3b:00.0/sriov_drivers_autoprobe",
      ])
    // What is told is what is done, and in that order.
    #expect(nic.takeWrites() == written)
  }

  @Test("a dry run tells the same writes, but for ports that are not there yet, and does none")
  func dryRun() throws {
    let before = try nic.state()
    let told = try prepare(dryRun: true)
    #expect(try nic.state() == before && nic.takeWrites().isEmpty && records.isEmpty)
    let done = try prepare()
    #expect(told.count == done.count)
    for (told, done) in zip(told, done) where !told.contains("port function") { #expect(told == done) }
    #expect(
      told.contains(
        "devlink port function set pci/0000:3b:00.0/<port of VF 1> migratable enable   # where the device knows of it"))
  }

  @Test("what is so already is not written again, whoever holds it")
  func again() throws {
    _ = try prepare()
    nic.use(by: ["process 4711 (qemu) has /dev/vfio/devices/vfio0 open"])
    let record = try Files.readText("\(PreparationFolder(root: nic.host.root).folder.path)/\(records[0])")
    #expect(try nic.preparation.prepare(wish) { _ in } == .nothingToDo)
    #expect(try Files.readText("\(PreparationFolder(root: nic.host.root).folder.path)/\(records[0])") == record)
  }

  @Test("functions that a driver has are taken from it first, and the driver gets them back by --undo")
  func existing() throws {
    let before = try nic.state()
    try nic.perform(.file("\(nic.device.folder)/sriov_numvfs", "2"))
    let bound = try nic.state()
    #expect(bound != before && bound.contains("0000:3b:00.2 mlx5_core (null)"))
    let written = try prepare()
    #expect(
      written.prefix(3) == [
        "echo 0000:3b:00.2 > /sys/bus/pci/drivers/mlx5_core/unbind",
        "echo 0000:3b:00.3 > /sys/bus/pci/drivers/mlx5_core/unbind",
        "devlink dev eswitch set pci/0000:3b:00.0 mode switchdev",
      ])
    #expect(!written.contains { $0.contains("sriov") })
    #expect(try nic.state().contains("0000:3b:00.3 mlx5_vfio_pci mlx5_vfio_pci"))
    #expect(try undo() == .done)
    #expect(try nic.state() == bound && records.isEmpty)
  }

  @Test("a second wish adds to the record: --undo gives back what was there before the first")
  func twice() throws {
    let before = try nic.state()
    _ = try prepare(PreparationWish(functions: 2, driver: "vfio-pci"))
    #expect(try nic.state().contains("0000:3b:00.2 vfio-pci vfio-pci"))
    _ = try prepare()
    #expect(try nic.state().contains("0000:3b:00.2 mlx5_vfio_pci mlx5_vfio_pci"))
    #expect(try undo() == .done)
    #expect(try nic.state() == before && records.isEmpty)
    #expect(try undo() == .nothingToDo)
  }

  @Test("each write made to fail in turn, with effect or without: all is as it was, and nothing is left behind")
  func eachFails() throws {
    for count in [0, 2] {
      for takesEffect in [false, true] {
        let nic = try DescribedConnectX()
        if count > 0 { try nic.perform(.file("\(nic.device.folder)/sriov_numvfs", "2")) }
        let before = try nic.state()
        var number = 0
        while true {
          _ = nic.takeWrites()
          nic.fail(.init(at: number, takesEffect: takesEffect))
          do throws(PreparationError) {
            try nic.preparation.prepare(wish) { _ in }
            break
          } catch {
            #expect("\(error)".hasSuffix("what had been done is undone"), "\(error)")
            #expect(error.hasChanged && error.wayBack.isEmpty)
          }
          nic.fail(nil)
          #expect(try nic.state() == before, "write \(number) of \(count) functions, with effect: \(takesEffect)")
          #expect(PreparationFolder(root: nic.host.root).folder.names.isEmpty)
          number += 1
        }
        #expect(number == (count == 0 ? 11 : 10), "each write has failed once")
      }
    }
  }

  @Test("where nothing can be written any more, what is not undone is said, and --undo does it later")
  func wayBackFails() throws {
    let before = try nic.state()
    for number in 2..<11 {
      _ = nic.takeWrites()
      nic.fail(.init(at: number, lasts: true))
      do throws(PreparationError) {
        try nic.preparation.prepare(wish) { _ in }
        Issue.record("write \(number) has not failed")
      } catch {
        #expect(!error.wayBack.isEmpty && "\(error)".contains("; not undone: ") && "\(error)".hasSuffix("--undo"))
      }
      #expect(records == ["pci-0000:3b:00.0"])
      expect({ _ = try undo() }, fails: "the record is kept, so try again")
      nic.fail(nil)
      #expect(try undo() == .done)
      #expect(try nic.state() == before && records.isEmpty, "write \(number)")
    }
  }

  @Test("what is in use is refused before anything is changed, with who uses it, forwards and back")
  func inUse() throws {
    try nic.perform(.file("\(nic.device.folder)/sriov_numvfs", "2"))
    let user = "0000:3b:00.2: its interface ens1f0v0 is up with 192.0.2.1"
    nic.use(by: [user])
    let before = try nic.state()
    func refused(_ body: () throws -> Void) {
      do {
        try body()
        Issue.record("it was not refused")
      } catch let error as PreparationError {
        #expect(error.cause == .refused("in use: \(user)") && !error.hasChanged)
      } catch {
        Issue.record("\(error)")
      }
    }
    refused { _ = try prepare() }
    #expect(try nic.state() == before && records.isEmpty)
    // There is no record: what would be undone is the functions themselves.
    refused { _ = try undo() }
    #expect(try nic.state() == before)
    nic.use(by: [])
    _ = try prepare()
    let prepared = try nic.state()
    nic.use(by: [user])
    refused { _ = try undo() }
    #expect(try nic.state() == prepared && records.count == 1)
  }

  @Test("without a record --undo removes the functions, says so, and leaves the switch alone")
  func noRecord() throws {
    _ = try prepare()
    let folder = PreparationFolder(root: nic.host.root).folder
    for name in folder.names { Files.remove("\(folder.path)/\(name)") }
    _ = nic.takeWrites()
    var notes: [String] = []
    #expect(try nic.preparation.undo(announce: { _ in }, note: { notes.append($0) }) == .done)
    #expect(notes.count == 1 && notes[0].contains("nothing tells what 0000:3b:00.0 was before"))
    #expect(
      nic.takeWrites() == [
        "echo 0000:3b:00.2 > /sys/bus/pci/drivers/mlx5_vfio_pci/unbind", "echo > \(sysfs)/0000:3b:00.2/driver_override",
        "echo 0000:3b:00.3 > /sys/bus/pci/drivers/mlx5_vfio_pci/unbind", "echo > \(sysfs)/0000:3b:00.3/driver_override",
        "echo 0 > \(sysfs)/0000:3b:00.0/sriov_numvfs",
      ])
    #expect(try nic.state().contains("mode switchdev"))
  }

  @Test("one process at a time changes a device; a record of another run of the machine counts for nothing")
  func others() throws {
    _ = try prepare()
    let folder = PreparationFolder(root: nic.host.root)
    let held = try #require(try folder.folder.claim(records[0]))
    for body in [{ _ = try prepare(PreparationWish(functions: 2, driver: "vfio-pci")) }, { _ = try undo() }] {
      expect(body, fails: "another process is preparing it")
    }
    var record = try #require(PreparationRecord(try held.read(maximum: PreparationRecord.maximumSize)))
    record.boot = "another"
    do {
      let other = try folder.write(record, over: held)
      #expect(records == [other.name])
    }
    // Of runs that were killed while they wrote it: one has given it a second name already.
    let path = "\(folder.folder.path)/\(record.name)"
    try Files.link(path, to: "\(path).1-1.new")
    try "vfio".write(toFile: "\(path).2-2.new", atomically: false, encoding: .utf8)
    var notes: [String] = []
    _ = try nic.preparation.undo(announce: { _ in }, note: { notes.append($0) })
    #expect(notes.count == 1 && records.isEmpty)
  }

  @Test("what is there is looked at only with the record held, before the first write as well")
  func claimed() throws {
    let folder = PreparationFolder(root: nic.host.root)
    let empty = PreparationRecord(
      bus: "pci", device: DescribedConnectX.name, boot: try #require(ProcessIdentity.boot(proc: nic.host.root.proc)))
    let before = try nic.state()
    do {
      let held = try folder.write(empty, over: nil)
      for body in [{ _ = try prepare() }, { _ = try undo() }] { expect(body, fails: "another process is preparing it") }
      #expect(try nic.state() == before && nic.takeWrites().isEmpty)
      withExtendedLifetime(held) {}
    }
    // Its run is gone, and had written nothing down.
    #expect(records.count == 1)
    #expect(try undo() == .nothingToDo)
    #expect(records.isEmpty)
    _ = try folder.write(empty, over: nil)
    #expect(try !prepare().isEmpty && undo() == .done)
    #expect(try nic.state() == before && records.isEmpty)
  }

  @Test("what somebody else has changed since is not undone, nor is anything else")
  func foreign() throws {
    let before = try nic.state()
    _ = try prepare()
    for write in [
      PreparationWrite.file("/sys/bus/pci/drivers/mlx5_vfio_pci/unbind", "0000:3b:00.3"),
      .file("\(sysfs)/0000:3b:00.3/driver_override", "vfio-pci"),
      .file("/sys/bus/pci/drivers/vfio-pci/bind", "0000:3b:00.3"),
    ] {
      guard case .file(let path, let text) = write else { continue }
      try nic.perform(.file(nic.host.folder.path + path, text))
    }
    let changed = try nic.state()
    _ = nic.takeWrites()
    do throws(PreparationError) {
      _ = try nic.preparation.undo(announce: { _ in }, note: { _ in })
      Issue.record("it was not refused")
    } catch {
      var reason = ""
      if case .refused(let words) = error.cause { reason = words }
      #expect(reason.contains("driver of VF 1 was set to \"mlx5_vfio_pci\" and is \"vfio-pci\""), "\(reason)")
      #expect(!error.hasChanged)
    }
    #expect(try nic.state() == changed && nic.takeWrites().isEmpty && records.count == 1)
    // Who wishes for it again has it, and the way back.
    _ = try prepare()
    #expect(try undo() == .done)
    #expect(try nic.state() == before)
  }

  @Test("a run that was killed while drivers could not look by themselves ends, the next time, with them as before")
  func autoprobeAfterKill() throws {
    let before = try nic.state()
    for number in 2..<11 {
      _ = nic.takeWrites()
      // Behind the writes of the mode and of autoprobe nothing works any more, the way back neither: it is as after a kill.
      nic.fail(.init(at: number, lasts: true))
      expect({ _ = try prepare() }, fails: "not undone")
      nic.fail(nil)
      #expect(try nic.state().contains("autoprobe 0"))
      _ = try prepare()
      #expect(try nic.state().contains("autoprobe 1"), "write \(number)")
      #expect(try undo() == .done)
      #expect(try nic.state() == before && records.isEmpty, "write \(number)")
    }
  }

  @Test("where there is no record, --undo leaves none, also where it fails: the next one goes on")
  func noRecordFails() throws {
    for lasts in [false, true] {
      _ = try prepare()
      let folder = PreparationFolder(root: nic.host.root).folder
      for name in folder.names { Files.remove("\(folder.path)/\(name)") }
      let prepared = try nic.state()
      _ = nic.takeWrites()
      nic.fail(.init(at: 2, lasts: lasts))
      expect({ _ = try undo() }, fails: lasts ? "not undone" : "what had been done is undone")
      nic.fail(nil)
      #expect(records.isEmpty)
      #expect(try (nic.state() == prepared) == !lasts)
      #expect(try undo() == .done)
      #expect(try nic.state().contains("count 0") && records.isEmpty)
    }
  }

  @Test("without libnl a NIC's switch is not taken for one that is not there")
  func noLibrary() {
    let host = SystemPreparationHost(
      device: nic.device, root: nic.host.root,
      network: NoNetwork(error: NetlinkError(errno: .noLibrary, words: "")), holders: { _ in [] }, addresses: { [:] })
    for setting in [PreparationSetting.switchMode, .migratable(0), .address(0)] {
      expect({ _ = try host.value(of: setting) }, fails: "libnl is not installed")
    }
  }

  @Test("what comes into use before the first write is a refusal, and not something that was undone")
  func lateUser() throws {
    let run = PreparationRun(
      device: nic.device, host: nic, folder: PreparationFolder(root: nic.host.root), announce: { _ in })
    let record = PreparationRecord(bus: "pci", device: DescribedConnectX.name, boot: "1")
    nic.use(by: ["somebody"])
    do throws(PreparationError) {
      let held = try run.write(record, over: nil)
      try run.carryOut([PreparationStep(setting: .functions, value: "2")], held, record, isWritten: true)
      Issue.record("it was not refused")
    } catch {
      #expect(error.cause == .refused("in use: somebody") && !error.hasChanged)
    }
    #expect(records.isEmpty && nic.takeWrites().isEmpty)
  }

  @Test("a record that is damaged, or that others could have written, is not followed")
  func damaged() throws {
    _ = try prepare()
    let before = try nic.state()
    let path = "\(PreparationFolder(root: nic.host.root).folder.path)/\(records[0])"
    try "vfio-ferry prepared 1\n".write(toFile: path, atomically: false, encoding: .utf8)
    expect({ _ = try undo() }, fails: "is damaged")
    try FileManager.default.setAttributes([.posixPermissions: 0o666], ofItemAtPath: path)
    expect({ _ = try undo() }, fails: "trusting")
    #expect(try nic.state() == before)
  }

  /// That it fails, and what is said of it.
  private func expect(_ body: () throws -> Void, fails words: String) {
    do {
      try body()
      Issue.record("it has not failed")
    } catch {
      #expect("\(error)".contains(words), "\(error)")
    }
  }
}
