// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Migration
internal import Topology

struct ListCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the devices that VFIO can reach, without binding them.")

  @OptionGroup var format: FormatOptions

  @Option(help: "List what this process holds, asked through duplicates of its descriptors: nothing is bound or reset.")
  var pid: Int32?

  @Flag(help: "Bind every device to ask it what it supports. This resets PCI devices.")
  var probe = false

  func validate() throws {
    if let pid, pid <= 0 { throw ValidationError("--pid takes the number of a process") }
    if probe, pid != nil { throw ValidationError("--probe binds devices; what a process holds is bound already") }
  }

  func execute(_ console: Console) throws {
    try execute(console, inventory: Inventory())
  }

  func execute(_ console: Console, inventory: Inventory) throws(CommandFailure) {
    guard inventory.hasVFIO else {
      throw .nothing(
        "this kernel has no VFIO: load the modules vfio and vfio-pci, or boot a kernel that has CONFIG_VFIO")
    }
    let records = inventory.devices()
    if records.isEmpty {
      throw .nothing("no device is bound to VFIO: bind one, for example with driver_override in /sys/bus/pci/devices")
    }
    var rows: [(record: DeviceRecord, probed: Probe?)] = []
    for record in records {
      if let pid {
        let access = DeviceAccess(way: WayToDevice(pid: pid), inventory: inventory)
        do throws(CommandFailure) {
          rows.append((record, Probe(try access.open(record, console: console))))
        } catch {
          // What the process does not hold is not listed; what it may hold is, with what is in the way.
          switch error.status {
          case .nothing where error.message.contains("holds no"): break
          case .refused: rows.append((record, Probe(problem: error.message)))
          default: throw error
          }
        }
      } else {
        rows.append((record, probe ? Probe.binding(record, inventory: inventory, console: console) : nil))
      }
    }
    if let pid, rows.isEmpty { throw .nothing("process \(pid) holds no VFIO device") }
    if format.wantsJSON {
      console.json(.array(rows.map { $0.record.json($0.probed) }), format)
      return
    }
    var table = [["DEVICE", "DRIVER", "GROUP", "NODE", "STATE", "MIGRATION"]]
    for (record, probed) in rows {
      table.append([
        "\(record.name)", record.driver ?? "-", record.group.map(String.init) ?? "-", record.node ?? "-",
        (probed?.state ?? record.debugState)?.name ?? "-", record.migrationSummary(probed),
      ])
    }
    for line in TextTable.lines(table) { console.line(line) }
  }
}
