// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Topology
internal import VFIO

/// What a device says of itself, which it does only once it is bound.
struct Probe {
  private(set) var features: MigrationFeatures?
  private(set) var state: MigrationState?
  private(set) var stopCopyBytes: UInt64?
  /// What would track the guest pages that it writes, and why that.
  private(set) var tracker: TrackerChoice?
  /// Why it says nothing, or not all.
  private(set) var problem: String?

  /// Asks a device that is open.
  init(_ device: KernelDevice) {
    do throws(DeviceError) {
      features = try device.migrationFeatures()
      state = try device.migrationState()
      stopCopyBytes = try device.stopCopySize()
    } catch {
      problem = error.errno == .notTypewriter ? "not migratable" : "\(error)"
    }
    // A page table can be asked for by who has bound the device. One that somebody else holds stays where it is.
    if let iommufd = device.support as? IOMMUFD, let space = try? AddressSpace(in: iommufd) {
      try? device.attachTracking(to: space)
    }
    var offers = TrackerOffers()
    tracker = try? TrackerChoice(for: device.name, from: offers.offers(for: device))
  }

  /// Binds the device, asks it, and lets it go again.
  static func binding(_ record: DeviceRecord, inventory: Inventory, console: Console) -> Probe {
    do throws(CommandFailure) {
      return Probe(try DeviceAccess(inventory: inventory).open(record, console: console))
    } catch {
      return Probe(problem: error.message)
    }
  }

  /// A device that could not be asked.
  init(problem: String) { self.problem = problem }
}

extension DeviceRecord {
  /// One word or two on what the device offers.
  func migrationSummary(_ probe: Probe?) -> String {
    if let features = probe?.features { return features.names.joined(separator: ",") }
    if let problem = probe?.problem { return problem }
    switch isMigratable {
    case true: return usualFeatures.map { "yes (usually \($0.names.joined(separator: ",")))" } ?? "yes"
    case false: return "no"
    case nil: return usualFeatures == nil ? "unknown" : "by its driver, yes"
    }
  }

  func json(_ probe: Probe?) -> JSON {
    .object([
      "name": .string("\(name)"),
      "sysfs": .string(sysfs),
      "driver": JSON(driver),
      "pci_id": JSON(pciIdentity),
      "on_vfio": .bool(isOnVFIO),
      "node": JSON(node),
      "iommu_group": JSON(group),
      "group_node": JSON(groupNode),
      "migratable": probe?.features.map { _ in .bool(true) } ?? JSON(isMigratable),
      "state": JSON((probe?.state ?? debugState)?.name),
      "features": probe?.features.map { .array($0.names.map { .string($0) }) } ?? .null,
      "stop_copy_bytes": JSON(probe?.stopCopyBytes),
      "tracker": JSON(probe?.tracker?.kind.rawValue),
      "tracker_reason": JSON(probe?.tracker?.reason),
      "problem": JSON(probe?.problem),
    ])
  }
}
