// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import Topology
internal import Transport

/// What udev's rules start for each VFIO device: docs/udev.md. Nobody waits for anything meanwhile but udevd.
struct UdevCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "udev", abstract: "Print a device's properties, for udev's rules. Binds nothing.", shouldDisplay: false
  )

  @Argument(help: ArgumentHelp("The event's DEVPATH.", valueName: "DEVPATH"))
  var path: String

  func execute(_ console: Console) throws {
    execute(console, root: SystemRoot())
  }

  func execute(_ console: Console, root: SystemRoot) {
    let inventory = Inventory(root: root, readsStates: false)
    let scanner = TagScanner(root: root, filesOnly: true)
    let records = Self.settled(root) { inventory.devices(ofEvent: path) }
    let properties =
      if Inventory.isOfDevice(path) {
        records.first.map { UdevProperties(of: $0, tag: scanner.tag(of: $0), digest: Self.digest) }
      } else {
        UdevProperties(ofGroup: records, tag: { scanner.tag(of: $0) }, digest: Self.digest)
      }
    console.out(properties?.text ?? "")
  }

  /// Sixteen hexadecimal digits for a text.
  static func digest(_ text: String) -> String {
    let digits = String(StreamChecksum.xxh3(Array(text.utf8).span), radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  /// Looks until debugfs has said what it will say. The kernel tells of a device before it shows it there: mostly that is done by
  /// now, and if not, in a moment.
  private static func settled(_ root: SystemRoot, _ look: () -> [DeviceRecord]) -> [DeviceRecord] {
    let hasDebug = Files.exists("\(root.debug)/vfio")
    guard hasDebug, let pause = try? Cancellation() else { return look() }
    var records = look()
    for turn in 0..<20 where records.contains(where: { $0.isOnVFIO && $0.isMigratable != true }) {
      // A device that is there and can't be migrated is looked at twice: its folder comes first, and what is in it after.
      if turn > 0, records.allSatisfy({ !$0.isOnVFIO || $0.isMigratable != nil }) { break }
      _ = pause.pause(until: monotonicMicroseconds() + 3000)
      records = look()
    }
    return records
  }
}
