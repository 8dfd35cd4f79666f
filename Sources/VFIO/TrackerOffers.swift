// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration

/// What there is to track the writes of devices with, found out for one after the other.
///
/// Devices on one page table, or in one container, are offered the same tracker, so that it is read once. Nothing is
/// turned on, and nothing changed.
public struct TrackerOffers {
  private var tables: [PageTableTracker] = []
  private var containers: [ContainerTracker] = []

  /// For the first of some devices.
  public init() {}

  /// What there is for a device, and for what there is not the reason: one offer of each kind that has to be there to be
  /// used. It asks what can be done before what is: a page table may well be one that tracks nothing.
  /// - Parameters:
  ///   - device: bound and attached, or from a group. What only its holder knows (``KernelDevice/support``,
  ///     ``KernelDevice/attachment``) counts as not there.
  ///   - logLimits: the I/O addresses that its own log can watch, where they are known.
  public mutating func offers(for device: KernelDevice, logLimits: Range<UInt64>? = nil) -> [TrackerOffer] {
    [pageTable(of: device), DeviceLogTracker.offer(device, limits: logLimits), container(of: device)]
  }

  private mutating func pageTable(of device: KernelDevice) -> TrackerOffer {
    let iommufd: IOMMUFD
    switch (device.attachment, device.support) {
    case (.pageTable(let table), _): iommufd = table.space.iommufd
    case (.addressSpace(let space), _): iommufd = space.iommufd
    case (nil, let support as IOMMUFD): iommufd = support
    case (nil, is LegacyGroup): return .missing(.iommu, "it is in a container, not in an iommufd")
    case (nil, _): return .missing(.iommu, "which page table it is on only its holder knows")
    }
    if let number = device.iommufdNumber {
      do throws(SystemError) {
        guard try iommufd.canTrackWrites(of: number) else { return .missing(.iommu, "the IOMMU can't track writes") }
      } catch {
        if IOMMUFD.hasNoIOMMU(error) { return .missing(.iommu, "the device has no IOMMU of its own") }
        return .missing(.iommu, "\(error)")
      }
    }
    guard case .pageTable(let table) = device.attachment else {
      return .missing(.iommu, "the device is not attached to a page table that tracks writes")
    }
    let known = tables.first { $0.table.number == table.number && $0.table.space.iommufd === iommufd }
    if let known { return .ready(known) }
    let tracker = PageTableTracker(table)
    tables.append(tracker)
    return .ready(tracker)
  }

  private mutating func container(of device: KernelDevice) -> TrackerOffer {
    guard let group = device.support as? LegacyGroup else {
      return .missing(
        .container,
        device.support == nil ? "whether it is in one only its holder knows" : "the device is in an iommufd")
    }
    if let known = containers.first(where: { $0.container === group.container }) { return .ready(known) }
    do throws(SystemError) {
      guard try group.container.trackingPageSize() != nil else {
        return .missing(.container, "the kernel keeps no dirty pages of containers")
      }
    } catch {
      return .missing(.container, "\(error)")
    }
    let tracker = ContainerTracker(group.container)
    containers.append(tracker)
    return .ready(tracker)
  }
}
