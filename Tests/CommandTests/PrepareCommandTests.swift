// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Migration
import Testing
import Topology
import TopologyFixtures
import VFIO

@testable import vfio_ferry

struct PrepareCommandTests {
  private let host: FixtureHost
  private let name = "0000:3b:00.0"

  init() throws {
    host = try FixtureHost(
      text: """
        iommu on
        host pci0000:3a node=0
          3a:00.0 root-port acs=sv,rr link=16.0x16
            3b:00.0 endpoint id=15b3:101d driver=mlx5_core group=40 sriov
        """)
    let home = host.path(of: name)
    for (file, text) in [
      ("sriov_numvfs", "0"), ("sriov_totalvfs", "8"), ("sriov_drivers_autoprobe", "1"), ("sriov_offset", "2"),
      ("sriov_stride", "1"), ("sriov_vf_device", "101e"),
      ("modalias", "pci:v000015B3d0000101Dsv000015B3sd00000043bc02sc00i00"),
    ] {
      try host.write("\(home)/\(file)", text)
    }
    try host.make("sys/bus/pci/drivers/vfio-pci")
    try host.write("proc/sys/kernel/osrelease", "6.12.30-amd64")
    try host.write("proc/sys/kernel/random/boot_id", "1c0e4d5a-0000-4000-8000-000000000001")
    try host.write(
      "lib/modules/6.12.30-amd64/modules.alias", "alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci")
  }

  private func run(_ arguments: String...) throws -> (out: String, err: String, failure: CommandFailure?) {
    let collector = Collector()
    var failure: CommandFailure?
    do {
      try PrepareCommand.parse(arguments).execute(collector.console, root: host.root)
    } catch let error as CommandFailure {
      failure = error
    }
    return (collector.out.components(separatedBy: host.folder.path).joined(), collector.err, failure)
  }

  @Test("a dry run tells every write, the module to load among them, and needs nothing but sysfs")
  func dryRun() throws {
    let told = try run(name, "--vfs", "1", "--dry-run")
    #expect(told.failure == nil, "\(told)")
    #expect(
      told.out == """
        modprobe mlx5_vfio_pci
        echo 0 > /sys/bus/pci/devices/0000:3b:00.0/sriov_drivers_autoprobe
        echo 1 > /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs
        devlink port function set pci/0000:3b:00.0/<port of VF 0> migratable enable   # where the device knows of it
        echo mlx5_vfio_pci > /sys/bus/pci/devices/0000:3b:00.2/driver_override
        echo 0000:3b:00.2 > /sys/bus/pci/drivers/mlx5_vfio_pci/bind
        echo 1 > /sys/bus/pci/devices/0000:3b:00.0/sriov_drivers_autoprobe

        """)
    #expect(!FileManager.default.fileExists(atPath: host.folder.path + "/run"))
    let chosen = try run(name, "--vfs", "1", "--driver", "vfio-pci", "--dry-run")
    #expect(chosen.out.hasPrefix("echo 0 >") && chosen.out.contains("drivers/vfio-pci/bind"), "\(chosen)")
  }

  @Test("as JSON a function has its writes, and how it ended, in one line; the failure is on standard error as ever")
  func json() throws {
    let told = try run(name, "--vfs", "1", "--driver", "vfio-pci", "--dry-run", "-j")
    #expect(
      told.out == #"{"name":"0000:3b:00.0","action":"prepare","dry_run":true,"outcome":"done","writes":["#
        + #""echo 0 > /sys/bus/pci/devices/0000:3b:00.0/sriov_drivers_autoprobe","#
        + #""echo 1 > /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs","#
        + #""devlink port function set pci/0000:3b:00.0/<port of VF 0> migratable enable   # where the device knows of it","#
        + #""echo vfio-pci > /sys/bus/pci/devices/0000:3b:00.2/driver_override","#
        + #""echo 0000:3b:00.2 > /sys/bus/pci/drivers/vfio-pci/bind","#
        + #""echo 1 > /sys/bus/pci/devices/0000:3b:00.0/sriov_drivers_autoprobe"],"notes":[],"error":null,"not_undone":[]}"#
        + "\n", "\(told)")
    #expect(told.err.isEmpty && told.failure == nil)
    let refused = try run(name, "--vfs", "9", "-j")
    #expect(
      refused.failure?.status == .refused && refused.out.contains(#""outcome":"refused","writes":[],"#), "\(refused)")
    let nothing = try run(name, "--undo", "--dry-run", "-j")
    #expect(nothing.failure == nil && nothing.err.isEmpty, "\(nothing)")
    #expect(nothing.out.hasPrefix(#"{"name":"0000:3b:00.0","action":"undo","dry_run":true,"outcome":"nothing-to-do""#))
    // The described host has no kernel behind it: the first write is made, and the functions do not appear.
    let failed = try run(name, "--vfs", "1", "--driver", "vfio-pci", "-j")
    #expect(failed.failure?.status == .failed && failed.out.contains(#""outcome":"failed","#), "\(failed)")
    let none = try run("--configured", name, "-j")
    #expect(none.out.isEmpty && none.failure == nil)
    // What has the exit status of what is not there says so here, too.
    try host.write("\(host.path(of: name))/sriov_numvfs", "?")
    let unreadable = try run(name, "--vfs", "1", "-j")
    #expect(
      unreadable.failure?.status == .nothing && unreadable.out.contains(#""outcome":"nothing","#), "\(unreadable)")
  }

  @Test("what no file names is nothing to prepare, and nothing at all with --configured; a file is found by its pf")
  func files() throws {
    #expect(try run(name).failure?.status == .nothing)
    #expect(try run("--all").failure?.status == .nothing)
    for subject in [name, "0000:99:00.0"] {
      let silent = try run("--configured", subject)
      #expect(silent.out.isEmpty && silent.err.isEmpty && silent.failure == nil)
    }
    try host.write("etc/vfio-ferry/prepare.d/a.toml", "pf = \"pci-0000:3b:00.0\"\nvfs = 3\ndriver = \"vfio-pci\"")
    for arguments in [
      ["--configured", name], [name], ["--all"], ["\(host.folder.path)/etc/vfio-ferry/prepare.d/a.toml"],
    ] {
      let collector = Collector()
      try PrepareCommand.parse(arguments + ["--dry-run"]).execute(collector.console, root: host.root)
      #expect(collector.out.contains("echo 3 > "), "\(arguments)")
    }
    try host.write("etc/vfio-ferry/prepare.d/a.toml", "pf = \"0000:3b:00.0\"\nvfs = \"3\"")
    for arguments in [["--configured", name], [name], ["--all"]] {
      #expect(throws: CommandFailure.self) {
        try PrepareCommand.parse(arguments).execute(Collector().console, root: host.root)
      }
    }
    let failure = try run(name).failure
    #expect(
      failure?.status == .misuse
        && failure?.message.hasSuffix("a.toml:2: vfs is a string, and has to be a number") == true)
    // What a file names and what is none is an error, and not silence.
    try host.write("etc/vfio-ferry/prepare.d/a.toml", "pf = \"0000:3a:00.0\"\nvfs = 3")
    #expect(try run("--configured", "0000:3a:00.0").failure?.status == .nothing)
  }

  @Test("two files for one function are misuse before anything is done for another")
  func twice() throws {
    for (file, device) in [("a", "0000:3b:00.0"), ("b", "pci-0000:3b:00.0")] {
      try host.write("etc/vfio-ferry/prepare.d/\(file).toml", "pf = \"\(device)\"\nvfs = 1")
    }
    let told = try run("--all", "--dry-run")
    #expect(told.failure?.status == .misuse && told.out.isEmpty, "\(told)")
    #expect(told.failure?.message.hasSuffix("a.toml") == true, "\(told)")
  }

  @Test("who has a device is told by its node or group, and by a group's device that could be it")
  func holders() throws {
    let record = try Inventory(root: host.root, readsStates: false).device(.pci(name))
    #expect(VFIOHolders.place(among: [.group(40)], record) == "group /dev/vfio/40")
    #expect(VFIOHolders.place(among: [.group(41), .groupDevice(sysfs: nil)], record) == nil)
    #expect(VFIOHolders.place(among: [.groupDevice(sysfs: nil)], record)?.contains("may be") == true)
    #expect(VFIOHolders.place(among: [.groupDevice(sysfs: "/sys/devices/x/\(name)")], record) == "it")
    #expect(VFIOHolders.place(among: [.groupDevice(sysfs: "/sys/devices/x/0000:01:00.0")], record) == nil)
  }

  @Test("the exit status says whether there is no such device, or it may not be")
  func statuses() throws {
    #expect(try run("0000:99:00.0", "--vfs", "1").failure?.status == .nothing)
    #expect(try run("0000:3a:00.0", "--vfs", "1").failure?.status == .nothing)
    #expect(try run(name, "--vfs", "9").failure?.status == .refused)
    #expect(try run(name, "--vfs", "1", "--eswitch", "switchdev").failure?.status == .refused)
    let nothing = try run(name, "--undo", "--dry-run")
    #expect(nothing.failure == nil && nothing.err.contains("nothing to undo"), "\(nothing)")
  }

  @Test(
    "options that make no sense together are misuse",
    arguments: [
      [], ["--all", "0000:3b:00.0"], ["0000:3b:00.0", "--eswitch", "legacy"], ["0000:3b:00.0", "--vfs", "0"],
      ["0000:3b:00.0", "--vfs", "1", "--undo"], ["--all", "--undo"], ["0000:3b:00.0", "--configured", "--undo"],
      ["0000:3b:00.0", "--vfs", "1", "--eswitch", "on"], ["0000:3b:00.0", "--vfs", "1", "--mac", "1"],
      ["0000:3b:00.0", "--vfs", "1", "--mac", "01:00:00:00:00:01"], ["0000:3b:00.0", "--vfs", "1", "--driver", "a/b"],
      ["0000:3b:00.0", "--vfs", "1", "--mac", "02:00:00:00:00:01", "--mac", "02:00:00:00:00:02"],
    ])
  func misuse(_ arguments: [String]) {
    #expect(throws: (any Error).self) { try PrepareCommand.parse(arguments) }
  }
}
