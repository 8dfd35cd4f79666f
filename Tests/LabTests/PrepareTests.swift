// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

@testable import Topology
@testable import vfio_ferry

/// The host that it is in, where one of the writes fails that are asked of it.
private final class FailingHost: PreparationHost {
  private let host: SystemPreparationHost
  private let failing: Int
  private let takesEffect: Bool
  private(set) var writes = 0

  /// - Parameter failing: the number of the write that fails, from 0.
  init(_ device: PhysicalFunction, failing: Int, takesEffect: Bool) {
    host = SystemPreparationHost(
      device: device, root: SystemRoot(), network: KernelNetwork(), holders: { _ in [] },
      addresses: { (try? InterfaceAddresses.all()) ?? [:] })
    self.failing = failing
    self.takesEffect = takesEffect
  }

  func value(of setting: PreparationSetting) throws(PreparationError) -> String? { try host.value(of: setting) }
  func writes(_ setting: PreparationSetting, _ value: String, mode: String?) -> [PreparationWrite] {
    host.writes(setting, value, mode: mode)
  }
  func users(hitBy setting: PreparationSetting, _ value: String) -> [String] { host.users(hitBy: setting, value) }
  func perform(_ write: PreparationWrite) throws(PreparationError) {
    let fails = writes == failing
    writes += 1
    if !fails || takesEffect { try host.perform(write) }
    if fails { throw PreparationError(device: "it", cause: .failed(write: "\(write)", reason: "made to fail")) }
  }
}

/// Has each write of preparing a device fail in turn, with effect and without, and looks whether all is then as it was.
/// - Returns: how many writes there are.
private func failEachWrite(
  of device: PhysicalFunction, _ wish: PreparationWish, _ look: () throws -> [String]
) throws -> Int {
  let before = try look()
  var number = 0
  for takesEffect in [false, true] {
    number = 0
    while true {
      let host = FailingHost(device, failing: number, takesEffect: takesEffect)
      do throws(PreparationError) {
        try Preparation(device, root: SystemRoot(), host: host).prepare(wish) { _ in }
        break
      } catch {
        #expect(error.hasChanged && error.wayBack.isEmpty, "\(error)")
      }
      #expect(try look() == before, "after write \(number), with effect: \(takesEffect)")
      #expect(Files.names(in: "/run/vfio-ferry/prepared").isEmpty)
      number += 1
    }
    try Preparation(device, holders: { _ in [] }).undo(announce: { _ in }, note: { _ in })
    #expect(try look() == before)
  }
  return number
}

extension LabTests {
  /// Preparing on the kernel's own simulated switch, which has a mode, functions and their addresses, and no PCI devices.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct PrepareTests {
    /// A simulated NIC in legacy mode, without functions.
    private struct NIC {
      static let number = 78
      let name = "netdevsim\(number)"
      var handle: String { "netdevsim/\(name)" }

      init() throws { try Self.write("\(Self.number) 1", to: "/sys/bus/netdevsim/new_device") }
      func remove() throws { try Self.write("\(Self.number)", to: "/sys/bus/netdevsim/del_device") }

      var interface: String {
        get throws {
          try #require(
            Files.names(in: "/sys/bus/netdevsim/devices/\(name)/net").first {
              Files.text("/sys/class/net/\($0)/phys_port_name")?.hasPrefix("pf") != true
            })
        }
      }

      /// What iproute2 and sysfs say of it, which share no code with what is judged.
      func state() throws -> [String] {
        let functions = try run("ip", "link", "show", interface).split(separator: "\n").filter { $0.contains(" vf ") }
        return [
          try run("devlink", "dev", "eswitch", "show", handle),
          try Files.readText("/sys/bus/netdevsim/devices/\(name)/sriov_numvfs"),
          "\(try run("devlink", "port", "show").split(separator: "\n").count { $0.contains(handle) })",
        ] + functions.map(String.init)
      }

      private static func write(_ text: String, to path: String) throws {
        let file = try Descriptor.open(path, O_WRONLY)
        _ = try file.write(Array(text.utf8).span)
      }
    }

    @Test("the switch's mode, its functions and their addresses are set and undone; what is so already is left alone")
    func whole() throws {
      let nic = try NIC()
      let before = try nic.state()
      let asked = ["prepare", nic.handle, "--vfs", "2", "--eswitch", "switchdev", "--mac", "02:00:00:00:00:11"]
      let told = try Lab.ferry(asked + ["--dry-run"])
      #expect(try told.status == 0 && nic.state() == before, "\(told)")
      let done = try Lab.ferry(asked)
      #expect(done.status == 0 && done.out == told.out && done.out.contains("mode switchdev\n"), "\(done)")
      let prepared = try nic.state()
      #expect(prepared[0].contains("mode switchdev") && prepared[1] == "2" && prepared[2] == "3", "\(prepared)")
      #expect(prepared.contains { $0.contains("vf 0") && $0.contains("02:00:00:00:00:11") }, "\(prepared)")
      // Its ports have functions, of which it knows nothing that can be set here.
      let network = KernelNetwork()
      #expect(try network.port(ofFunction: 1, bus: "netdevsim", device: nic.name) > 0)
      #expect(throws: NetlinkError(errno: ErrorNumber(rawValue: ENODATA), words: "")) {
        try network.isMigratable(function: 1, bus: "netdevsim", device: nic.name)
      }
      let again = try Lab.ferry(asked)
      #expect(again.status == 0 && again.out.isEmpty && again.err.contains("nothing to do"), "\(again)")
      // Back to the other mode, with functions there.
      #expect(try Lab.ferry(["prepare", nic.handle, "--vfs", "2", "--eswitch", "legacy"]).status == 0)
      #expect(try nic.state()[0].contains("mode legacy"))
      let other = try Lab.ferry(["prepare", nic.handle, "--vfs", "1"])
      #expect(other.status == 3 && other.err.contains("it has 2 VFs"), "\(other)")
      let undone = try Lab.ferry(["prepare", nic.handle, "--undo"])
      #expect(try undone.status == 0 && nic.state() == before, "\(undone)")
      #expect(Files.names(in: "/run/vfio-ferry/prepared").isEmpty)
      let nothing = try Lab.ferry(["prepare", nic.handle, "--undo"])
      #expect(nothing.status == 0 && nothing.err.contains("nothing to undo"), "\(nothing)")
      try nic.remove()
    }

    @Test("each write made to fail in turn leaves the simulated NIC as it was")
    func eachFails() throws {
      let nic = try NIC()
      let wish = PreparationWish(
        functions: 2, switchMode: .switchdev, addresses: [try #require(MACAddress("02:00:00:00:00:11"))])
      let device = try PhysicalFunction(named: nic.handle)
      #expect(try failEachWrite(of: device, wish) { try nic.state() } == 3)
      try nic.remove()
    }

    @Test("an interface that is up with an address keeps its switch's mode, and is named")
    func inUse() throws {
      let nic = try NIC()
      let interface = try nic.interface
      _ = try run("ip", "address", "add", "192.0.2.9/24", "dev", interface)
      _ = try run("ip", "link", "set", interface, "up")
      let before = try nic.state()
      let refused = try Lab.ferry(["prepare", nic.handle, "--vfs", "2", "--eswitch", "switchdev"])
      #expect(
        refused.status == 3 && refused.err.contains("its interface \(interface) is up with 192.0.2.9"), "\(refused)")
      #expect(try nic.state() == before)
      // Functions alone take nothing away from it.
      #expect(try Lab.ferry(["prepare", interface, "--vfs", "2"]).status == 0)
      _ = try run("ip", "link", "set", interface, "down")
      #expect(try Lab.ferry(["prepare", nic.handle, "--vfs", "2", "--eswitch", "switchdev"]).status == 0)
      #expect(try Lab.ferry(["prepare", nic.handle, "--undo"]).status == 0)
      try nic.remove()
    }

    @Test("a file names the NIC by its interface; one that nobody names is passed over without a word")
    func configured() throws {
      let nic = try NIC()
      let folder = "/etc/vfio-ferry/prepare.d"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: folder) }
      func configured() throws -> Ended { try Lab.ferry(["prepare", "--configured", nic.handle]) }
      let before = try nic.state()
      let silent = try configured()
      #expect(silent.status == 0 && silent.out.isEmpty && silent.err.isEmpty, "\(silent)")
      let text = "pf = \"\(try nic.interface)\"\nvfs = 2\neswitch = \"switchdev\"\n"
      try text.write(toFile: "\(folder)/nic.toml", atomically: false, encoding: .utf8)
      let done = try configured()
      #expect(done.status == 0 && done.out.contains("echo 2 > "), "\(done)")
      #expect(try Lab.ferry(["prepare", "--all"]).err.contains("nothing to do"))
      #expect(try Lab.ferry(["prepare", "\(folder)/nic.toml"]).status == 0)
      #expect(try Lab.ferry(["prepare", nic.handle]).status == 0)
      #expect(try Lab.ferry(["prepare", nic.handle, "--undo"]).status == 0)
      #expect(try nic.state() == before)
      try "pf = 1\n".write(toFile: "\(folder)/nic.toml", atomically: false, encoding: .utf8)
      let damaged = try configured()
      #expect(damaged.status == 2 && damaged.err.contains("\(folder)/nic.toml:1: pf is a number"), "\(damaged)")
      try nic.remove()
    }
  }

  /// Preparing QEMU's nvme, whose virtual functions are PCI devices.
  @Suite(.serialized, .enabled(if: Lab.nvme != nil))
  struct PrepareNVMeTests {
    /// `F_SETPIPE_SZ`, which Swift does not import.
    private static let setPipeSize: Int32 = 1031
    private let device: PhysicalFunction

    init() throws {
      let controller = try #require(
        PCIScanner().tree().functions.first {
          $0.identity == "1b36:0010" && $0.parent != nil && $0.physicalFunction == nil
        })
      device = try PhysicalFunction(named: controller.address)
      // Other tests leave functions behind.
      try write("0", to: "sriov_numvfs")
      try write("1", to: "sriov_drivers_autoprobe")
    }

    private func write(_ text: String, to name: String) throws {
      let file = try Descriptor.open("/sys/bus/pci/devices/\(device.name)/\(name)", O_WRONLY)
      _ = try file.write(Array(text.utf8).span)
    }

    /// What sysfs says.
    private func state() throws -> [String] {
      let home = "/sys/bus/pci/devices/\(device.name)"
      let functions = Files.names(in: home).filter { $0.hasPrefix("virtfn") }.compactMap { Files.link("\(home)/\($0)") }
      return try [
        try Files.readText("\(home)/sriov_numvfs"), try Files.readText("\(home)/sriov_drivers_autoprobe"),
      ]
        + functions.map(Files.lastComponent).map { address in
          let folder = "/sys/bus/pci/devices/\(address)"
          let driver = Files.link("\(folder)/driver").map(Files.lastComponent) ?? "-"
          return "\(address) \(driver) \(try Files.readText("\(folder)/driver_override"))"
        }
    }

    @Test("VFs are made and bound to vfio-pci, as a dry run has told, and undone")
    func whole() throws {
      let before = try state()
      #expect(before == ["0", "1"])
      let told = try Lab.ferry(["prepare", device.name, "--vfs", "2", "--dry-run"])
      #expect(try told.status == 0 && state() == before, "\(told)")
      let done = try Lab.ferry(["prepare", device.name, "--vfs", "2"])
      #expect(done.status == 0, "\(done)")
      #expect(done.out.split(separator: "\n") == told.out.split(separator: "\n").filter { !$0.contains("# where") })
      let prepared = try state()
      #expect(prepared.prefix(2) == ["2", "1"] && prepared.count == 4)
      #expect(
        prepared.dropFirst(2).allSatisfy { $0.hasSuffix("vfio-pci vfio-pci") }, "\(prepared)")
      for address in prepared.dropFirst(2).map({ String($0.prefix { $0 != " " }) }) {
        #expect(try Lab.record(address).node != nil)
      }
      let again = try Lab.ferry(["prepare", device.name, "--vfs", "2"])
      #expect(again.status == 0 && again.out.isEmpty, "\(again)")
      let undone = try Lab.ferry(["prepare", device.name, "--undo"])
      #expect(try undone.status == 0 && state() == before, "\(undone)")
      #expect(Files.names(in: "/run/vfio-ferry/prepared").isEmpty)
    }

    @Test("each write made to fail in turn leaves the host as it was")
    func eachFails() throws {
      #expect(try failEachWrite(of: device, PreparationWish(functions: 2)) { try state() } == 7)
      // With functions that are there, and one of them on another driver.
      try write("0", to: "sriov_drivers_autoprobe")
      try write("2", to: "sriov_numvfs")
      #expect(try failEachWrite(of: device, PreparationWish(functions: 2)) { try state() } == 4)
      try write("0", to: "sriov_numvfs")
    }

    @Test("a driver that does not take the device is the kernel's own refusal, and all is undone")
    func refusedByKernel() throws {
      let before = try state()
      let failed = try Lab.ferry(["prepare", device.name, "--vfs", "2", "--driver", "virtio-pci"])
      #expect(failed.status == 1 && failed.err.contains("drivers/virtio-pci/bind: "), "\(failed)")
      #expect(failed.err.contains("what had been done is undone"))
      #expect(try state() == before)
      #expect(Files.names(in: "/run/vfio-ferry/prepared").isEmpty)
      let absent = try Lab.ferry(["prepare", device.name, "--vfs", "2", "--driver", "no-such-driver"])
      #expect(absent.status == 1 && absent.err.contains("modprobe no_such_driver"), "\(absent)")
      #expect(try state() == before)
    }

    @Test("a VF that a process has open is not taken away, and the process is named; when it is closed, it goes")
    func held() throws {
      #expect(try Lab.ferry(["prepare", device.name, "--vfs", "2"]).status == 0)
      let prepared = try state()
      let address = String(try #require(prepared.last).prefix { $0 != " " })
      do {
        let held = try Descriptor.open(try #require(try Lab.record(address).node), O_RDWR)
        // Nothing is to be done, so nothing is in the way.
        #expect(try Lab.ferry(["prepare", device.name, "--vfs", "2"]).status == 0)
        for arguments in [["--undo"], ["--vfs", "2", "--driver", "virtio-pci"]] {
          let refused = try Lab.ferry(["prepare", device.name] + arguments)
          #expect(refused.status == 3 && refused.err.contains("\(address): process \(getpid()) ("), "\(refused)")
        }
        #expect(try state() == prepared)
        withExtendedLifetime(held) {}
      }
      #expect(try Lab.ferry(["prepare", device.name, "--undo"]).status == 0)
      #expect(try state() == ["0", "1"])
    }

    @Test("a run that is killed before any of its writes is undone by --undo")
    func killed() throws {
      let told = try Lab.ferry(["prepare", device.name, "--vfs", "2", "--dry-run"]).out
      let lines = told.split(separator: "\n").filter { !$0.contains("# where") }
      #expect(lines.count == 7)
      for number in lines.indices {
        // Its standard output has room for the lines before: it stops at this one, with the write still to be done.
        let room = lines[..<number].reduce(0) { $0 + $1.utf8.count + 1 }
        let pipe = Pipe()
        #expect(fcntl(pipe.fileHandleForWriting.fileDescriptor, Self.setPipeSize, 4096) == 4096)
        try pipe.fileHandleForWriting.write(contentsOf: Data(repeating: 10, count: 4096 - room))
        let process = Process()
        process.executableURL = Lab.ferryProgram
        process.arguments = ["prepare", device.name, "--vfs", "2"]
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        try process.run()
        let record = "/run/vfio-ferry/prepared/pci-\(device.name)"
        try Lab.wait(until: "line \(number) was to be printed") {
          Files.text(record)?.split(separator: "\n").count { $0.hasPrefix("was ") } == number + 1
        }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        let undone = try Lab.ferry(["prepare", device.name, "--undo"])
        #expect(undone.status == 0, "\(undone)")
        #expect(try state() == ["0", "1"], "killed before write \(number)")
        #expect(Files.names(in: "/run/vfio-ferry/prepared").isEmpty)
      }
    }
  }
}
