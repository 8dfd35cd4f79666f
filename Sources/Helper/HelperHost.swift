// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
public import Migration
public import Topology
public import VFIO

/// Where a helper's devices come from, and what is known of the host: the kernel, or a test's own.
public protocol HelperHost: AnyObject, Sendable {
  /// Takes over a device that a VMM hands over, and looks at it without changing it.
  /// - Parameter descriptors: become the device's own; closed where this throws.
  func adopt(
    _ device: HelperDevice, _ descriptors: consuming ReceivedDescriptors
  ) throws(HelperFailure) -> AdoptedDevice

  /// Who of these devices can start transfers to whom, as far as the host shows it.
  func reachability(of devices: [DeviceName]) -> Reachability
}

/// A device that a helper holds.
public struct AdoptedDevice: Sendable {
  /// What sessions use.
  public let device: any MigratableDevice
  /// The name of its driver.
  public let driver: String
  /// What must match on the other side (DA7): a `CompatibilityTag`'s text, or nothing.
  public let tag: [UInt8]
  /// What there is to track its writes. Devices that share a page table or a container are offered the same tracker.
  public let offers: @Sendable (inout TrackerOffers) -> [TrackerOffer]
  /// Turns off a log of its own that somebody before this helper has left on, before tracking begins.
  public let endLeftLog: @Sendable () -> Void

  /// A device, and what else is known of it.
  public init(
    device: any MigratableDevice, driver: String, tag: [UInt8],
    endLeftLog: @escaping @Sendable () -> Void = {},
    offers: @escaping @Sendable (inout TrackerOffers) -> [TrackerOffer]
  ) {
    self.device = device
    self.driver = driver
    self.tag = tag
    self.endLeftLog = endLeftLog
    self.offers = offers
  }
}

/// This machine.
public final class KernelHost: HelperHost {
  private let inventory: Inventory
  private let spaces = AddressSpaces()

  /// This machine, or what a test has in a folder.
  public init(inventory: Inventory = Inventory()) { self.inventory = inventory }

  public func adopt(
    _ wanted: HelperDevice, _ descriptors: consuming ReceivedDescriptors
  ) throws(HelperFailure) -> AdoptedDevice {
    let id = wanted.device
    guard let descriptor = descriptors.first.take() else {
      throw HelperFailure(.badPacket, device: id, "a device comes with its descriptor")
    }
    let record: DeviceRecord
    do throws(Inventory.Problem) {
      record = try inventory.device(wanted.name)
    } catch {
      throw HelperFailure(.noSuch, device: id, "\(error)")
    }
    let node = Files.deviceNumber("\(inventory.root.proc)/self/fd/\(descriptor.rawValue)")
    if let node, let expected = record.nodeNumber, node != expected {
      throw HelperFailure(.badArgument, device: id, "the descriptor is not \(wanted.name): it is device node \(node)")
    }
    let device = try adopted(wanted, descriptor, descriptors.second.take())
    let features: MigrationFeatures
    do throws(DeviceError) {
      features = try device.migrationFeatures()
    } catch {
      if error.errno == .notTypewriter {
        throw HelperFailure(
          .refused, device: id, errno: error.errno,
          "\(wanted.name) can't be migrated: its driver \(record.driver ?? "") offers no migration")
      }
      throw HelperFailure(.device, device: id, errno: error.errno, "\(wanted.name): \(error)")
    }
    let limits = wanted.logLimits
    return AdoptedDevice(
      device: device, driver: record.driver ?? "unknown",
      tag: TagScanner(root: inventory.root, filesOnly: true).tag(of: record, features: features).encoded,
      endLeftLog: { try? DeviceLogTracker.turnOff(device) },
      offers: { offers in offers.offers(for: device, logLimits: limits) })
  }

  private func adopted(
    _ wanted: HelperDevice, _ descriptor: consuming Descriptor, _ support: consuming Descriptor?
  ) throws(HelperFailure) -> KernelDevice {
    guard wanted.support == .iommufd, let support else {
      return KernelDevice(adopting: descriptor, name: wanted.name)
    }
    let space = try spaces.space(wanted.space, in: support, device: wanted.device)
    let attachment = wanted.pageTable.map { Attachment.pageTable(PageTable(adopting: $0, of: space)) }
    return KernelDevice(
      adopting: descriptor, name: wanted.name, support: space.iommufd, iommufdNumber: wanted.iommufdNumber,
      attachment: attachment ?? .addressSpace(space))
  }

  public func reachability(of devices: [DeviceName]) -> Reachability {
    let records = devices.compactMap { name in try? inventory.device(name) }
    guard devices.count > 1, records.count == devices.count else { return .assumed(count: devices.count) }
    let tree = PCIScanner(root: inventory.root).tree(titles: false, rdma: false)
    return tree.reachability(of: records.map { $0.address(in: tree) })
  }
}
