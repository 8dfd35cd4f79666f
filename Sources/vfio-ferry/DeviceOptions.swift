// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Topology
internal import VFIO

/// How a command comes by its devices.
struct DeviceOptions: ParsableArguments {
  @Option(
    help: "Use the device through a duplicate of the descriptor that this process holds: nothing is bound or reset.")
  var pid: Int32?

  @Option(
    help: ArgumentHelp(
      "With --pid: the descriptor's number in that process. Without: a descriptor that this program inherited.",
      valueName: "number"))
  var fd: Int32?

  @Flag(help: "Open the device by its group and a container instead of its character device and an iommufd.")
  var group = false

  func validate() throws {
    if let pid, pid <= 0 { throw ValidationError("--pid takes the number of a process") }
    if let fd, fd < 0 { throw ValidationError("--fd takes the number of a descriptor") }
    if group, pid != nil || fd != nil { throw ValidationError("--group opens the device; --pid and --fd do not") }
  }

  /// The same, for those who do the work.
  var way: WayToDevice { WayToDevice(pid: pid, fd: fd, byGroup: group) }
}

/// How a device is come by: the default is its character device and an iommufd.
struct WayToDevice {
  /// Through a duplicate of a descriptor of this process.
  var pid: Int32?
  /// The descriptor's number there or, without a process, here.
  var fd: Int32?
  /// By the device's group and a container.
  var byGroup = false

  /// Whether opening a device binds it, which resets a PCI device.
  var binds: Bool { pid == nil && fd == nil }
}

/// A device that a command has found and opened.
struct OpenDevice {
  let record: DeviceRecord
  let device: KernelDevice
}

/// Finds devices by name and opens them.
struct DeviceAccess {
  var way = WayToDevice()
  var inventory = Inventory()

  /// A device's name from the command line.
  static func name(_ text: String) throws(CommandFailure) -> DeviceName {
    guard let name = DeviceName(text) else {
      throw .misuse(
        "\"\(text)\" is no device name: give a PCI address (0000:3b:00.1), a UUID, or /dev/vfio/devices/vfioN")
    }
    return name
  }

  /// What sysfs knows of the device.
  func record(_ name: DeviceName) throws(CommandFailure) -> DeviceRecord {
    do throws(Inventory.Problem) {
      return try inventory.device(name)
    } catch {
      throw .nothing("\(error): see \"vfio-ferry list\"")
    }
  }

  /// Finds devices and refuses what sysfs and debugfs show to be hopeless, before anything is opened.
  /// - Parameter toMigrate: whether they have to be migratable.
  @discardableResult
  func check(_ texts: [String], toMigrate: Bool = true) throws(CommandFailure) -> [DeviceRecord] {
    var names: [DeviceName] = []
    for text in texts { names.append(try Self.name(text)) }
    var records: [DeviceRecord] = []
    for name in names { records.append(try record(name)) }
    for (index, record) in records.enumerated() {
      if records[..<index].contains(where: { $0.sysfs == record.sysfs }) {
        throw .misuse("\(record.name) is named twice")
      }
      guard record.isOnVFIO else { throw .refused(Self.notOnVFIO(record)) }
      // Plain vfio-pci has no migration, and where debugfs does not say so binding would reset the device to find out.
      if toMigrate, record.isMigratable == false || record.driver == "vfio-pci" {
        throw .refused(Self.notMigratable(record))
      }
    }
    if way.fd != nil, records.count > 1 { throw .misuse("--fd goes with one device") }
    return records
  }

  /// A refusal that comes after the devices were opened: for a PCI device that has changed something.
  func refusal(_ reason: String, of opened: [OpenDevice]) -> CommandFailure {
    let wereReset = opened.map(\.record.name).filter { if case .pci = $0 { way.binds } else { false } }
    if wereReset.isEmpty { return .refused(reason) }
    let names = wereReset.map { "\($0)" }.joined(separator: ", ")
    return .failed("\(reason); opening has reset \(names)")
  }

  /// The order in which open devices stop.
  func plan(
    _ devices: [SessionDevice], _ reachability: Reachability, of opened: [OpenDevice]
  ) throws(CommandFailure) -> QuiescePlan {
    do throws(QuiesceRefusal) {
      return try QuiescePlan(devices: devices, reachability: reachability)
    } catch {
      throw refusal("\(error) (\(error.remedy))", of: opened)
    }
  }

  /// Finds and opens devices, all or none. Says on `console` what opening does to them.
  func open(_ texts: [String], console: Console) throws(CommandFailure) -> [OpenDevice] {
    let records = try check(texts)
    var opener = Opener(way: way)
    var opened: [OpenDevice] = []
    for record in records {
      opened.append(OpenDevice(record: record, device: try opener.open(record, inventory: inventory, console: console)))
    }
    return opened
  }

  /// Opens one device that was found.
  func open(_ record: DeviceRecord, console: Console) throws(CommandFailure) -> KernelDevice {
    var opener = Opener(way: way)
    return try opener.open(record, inventory: inventory, console: console)
  }

  static func notOnVFIO(_ record: DeviceRecord) -> String {
    "\(record.name) is not on VFIO: "
      + (record.driver.map { "the driver \($0) has it; unbind it and bind a VFIO driver" }
        ?? "no driver has it; bind a VFIO driver")
      + " (driver_override in \(record.sysfs))"
  }

  static func notMigratable(_ record: DeviceRecord) -> String {
    "\(record.name) is not migratable: its driver \(record.driver ?? "") offers no migration"
      + (record.driver == "vfio-pci"
        ? "; a variant driver for the device is needed, such as mlx5_vfio_pci for ConnectX VFs" : "")
  }
}

/// Opens devices, sharing what can be open once only.
private struct Opener {
  let way: WayToDevice
  private var iommufd: IOMMUFD?
  private var groups: [LegacyGroup] = []

  init(way: WayToDevice) { self.way = way }

  mutating func open(
    _ record: DeviceRecord, inventory: Inventory, console: Console
  ) throws(CommandFailure) -> KernelDevice {
    // A descriptor of this process's own is duplicated like anybody's: the original stays as it is.
    if !way.binds { return try held(record, pid: way.pid ?? getpid(), proc: inventory.root.proc) }
    do throws(OpeningError) {
      if case .pci = record.name { console.note("binding \(record.name) resets it") }
      return try way.byGroup ? byGroup(record) : byNode(record)
    } catch {
      throw .failed("\(error)")
    }
  }

  private func held(_ record: DeviceRecord, pid: Int32, proc: String) throws(CommandFailure) -> KernelDevice {
    do throws(Holder.Problem) {
      return try Holder(pid: pid, proc: proc).device(record.wanted, number: way.fd)
    } catch {
      switch error {
      case .notHeld, .notBound, .otherDescriptor: throw .nothing("\(error)")
      case .ambiguous: throw .refused("\(error)")
      case .system(let cause): throw cause.errno == ESRCH ? .nothing("\(error)") : .failed("\(error)")
      }
    }
  }

  private mutating func byNode(_ record: DeviceRecord) throws(OpeningError) -> KernelDevice {
    guard let node = record.node else {
      throw OpeningError(
        device: "\(record.name)", cause: SystemError("finding", "its character device", errno: 2),
        remedy: "this kernel has no VFIO_DEVICE_CDEV: use --group")
    }
    do throws(SystemError) {
      if iommufd == nil { iommufd = try IOMMUFD() }
    } catch {
      throw OpeningError(
        device: "\(record.name)", cause: error,
        remedy: error.errno == ENOENT
          ? "this kernel has no IOMMUFD: use --group" : "run as root, or with access to /dev/iommu")
    }
    guard let iommufd else { preconditionFailure("an iommufd was opened above") }
    return try iommufd.openDevice(node: node, name: record.name)
  }

  private mutating func byGroup(_ record: DeviceRecord) throws(OpeningError) -> KernelDevice {
    guard let number = record.group else {
      throw OpeningError(
        device: "\(record.name)", cause: SystemError("finding", "its IOMMU group", errno: 2),
        remedy: "is the IOMMU on?")
    }
    var group = groups.first { $0.number == number }
    if group == nil {
      let opened = try LegacyGroup(number: number)
      groups.append(opened)
      group = opened
    }
    guard let group else { preconditionFailure("the group was opened above") }
    return try group.openDevice(kernelName: Files.lastComponent(record.sysfs), name: record.name)
  }
}

extension DeviceRecord {
  /// What to look for in a process that may hold the device.
  var wanted: Holder.Wanted {
    Holder.Wanted(
      name: name, characterDevice: nodeNumber, sysfs: sysfs, group: group, isAloneInGroup: devicesInGroup == 1)
  }
}
