// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Migration
internal import Topology

struct ShowCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show what is known of a device, without binding it.",
    discussion: """
      Features, and what can track the guest pages that it writes, are what only the device itself can tell: through the \
      descriptor that a process holds (--pid), one that was inherited (--fd), or by binding the device (--probe), which \
      resets a PCI device.
      """)

  @OptionGroup var format: FormatOptions
  @OptionGroup var access: DeviceOptions

  @Flag(help: "Bind the device to ask it what it supports. This resets a PCI device.")
  var probe = false

  @Argument(help: ArgumentHelp("The device.", valueName: "DEV"))
  var device: String

  func execute(_ console: Console) throws {
    let deviceAccess = DeviceAccess(way: access.way)
    let record = try deviceAccess.record(DeviceAccess.name(device))
    var answer: Probe?
    if record.isOnVFIO, probe || !access.way.binds {
      answer = Probe(try deviceAccess.open(record, console: console))
    }
    if format.wantsJSON {
      console.json(record.json(answer), format)
      return
    }
    var rows = [
      ["device", "\(record.name)"],
      ["driver", record.driver ?? "none"],
      ["on VFIO", record.isOnVFIO ? "yes" : "no: \(DeviceAccess.notOnVFIO(record))"],
    ]
    if let identity = record.pciIdentity { rows.append(["PCI id", identity]) }
    rows.append(["IOMMU group", record.group.map(String.init) ?? "none"])
    rows.append(["nodes", record.nodes.isEmpty ? "none" : record.nodes])
    if record.isOnVFIO {
      rows.append(["migration", record.migrationSummary(answer)])
      rows.append(["state", (answer?.state ?? record.debugState)?.name ?? "unknown"])
    }
    if record.isOnVFIO { rows.append(["dirty pages", answer?.tracker?.reason ?? "unknown"]) }
    if let bytes = answer?.stopCopyBytes { rows.append(["stop-copy size", Figures.bytes(bytes)]) }
    rows.append(["sysfs", record.sysfs])
    for line in TextTable.lines(rows) { console.line(line) }
  }
}
