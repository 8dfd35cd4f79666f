// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
public import Migration

/// Gathers what the doctor judges by. Nothing is bound, nothing is opened that resets, and nothing is changed: files of sysfs,
/// procfs and debugfs are read, and on the real system netlink and libibverbs are asked.
public struct HostExamination: Sendable {
  /// Where the system's folders are.
  public let root: SystemRoot
  private let network: (any Network)?

  /// What is asked over netlink.
  typealias Network = NetworkIdentity & NetworkControl & FunctionMigratability

  /// The examination of that system; by default of this one. Of a system below another root there are only files: the kernel
  /// here knows nothing of it.
  public init(root: SystemRoot = SystemRoot()) {
    self.init(root: root, network: root.prefix.isEmpty ? KernelNetwork() : nil)
  }

  init(root: SystemRoot, network: (any Network)?) {
    self.root = root
    self.network = network
  }

  /// Looks at the host and at some of its devices.
  /// - Parameters:
  ///   - records: the devices; nil for every one that VFIO can reach.
  ///   - tree: the PCI tree, read with or without titles.
  ///   - pid: for which process permissions and limits are judged; nil for this one.
  ///   - reachability: who of the devices can start transfers to whom; nil where that is to be seen from the tree.
  public func facts(
    of records: [DeviceRecord]?, tree: PCITree, pid: Int32? = nil, reachability: Reachability? = nil,
    expectations: HostFacts.Expectations = HostFacts.Expectations()
  ) -> HostFacts {
    let inventory = Inventory(root: root)
    let devices = records ?? inventory.devices()
    let release = Attribute.text("\(root.proc)/sys/kernel/osrelease")
    let configuration = KernelConfiguration(root: root, release: release)
    let modules = KernelModules(root: root, release: release)
    let units = IOMMUUnit.all(
      root: root, commandLine: Files.text("\(root.proc)/cmdline") ?? "", configuration: configuration)
    return HostFacts(
      root: root, release: release, configuration: configuration, modules: modules, hasVFIO: inventory.hasVFIO,
      iommufd: NodeFacts("\(root.dev)/iommu"), container: NodeFacts("\(root.dev)/vfio/vfio"),
      hasIOMMU: tree.hasIOMMU, units: units,
      // The folder can be entered by root only.
      hasDebugfs: Files.names(in: root.debug).isEmpty ? nil : Files.exists("\(root.debug)/vfio"),
      process: ProcessAllowance(root: root, pid: pid), hugePages: hugePages,
      transparentHugePage: transparentHugePage,
      devices: devices.map { facts(of: $0, tree, modules, units) }, isOneMachine: records != nil,
      reachability: reachability ?? tree.reachability(of: devices.map { $0.address(in: tree) }),
      expectations: expectations)
  }

  /// The huge pages that were set aside, and those that may be made as they are asked for, by their size.
  private var hugePages: [UInt64: UInt64] {
    var pages: [UInt64: UInt64] = [:]
    let folder = "\(root.sys)/kernel/mm/hugepages"
    for name in Files.names(in: folder) {
      // "hugepages-2048kB"
      guard name.hasPrefix("hugepages-"), name.hasSuffix("kB"), let size = UInt64(name.dropFirst(10).dropLast(2)),
        size < 1 << 40
      else { continue }
      for kind in ["nr_hugepages", "nr_overcommit_hugepages"] {
        guard let count = Attribute.text("\(folder)/\(name)/\(kind)").flatMap({ UInt64($0) }), count > 0 else {
          continue
        }
        let sum = pages[size << 10, default: 0].addingReportingOverflow(count)
        pages[size << 10] = sum.overflow ? .max : sum.partialValue
      }
    }
    return pages
  }

  /// The choice that is in force is in brackets: "always [madvise] never". VMMs advise it.
  private var transparentHugePage: UInt64? {
    let folder = "\(root.sys)/kernel/mm/transparent_hugepage"
    guard let choice = Attribute.text("\(folder)/enabled"), !choice.contains("[never]") else { return nil }
    return Attribute.text("\(folder)/hpage_pmd_size").flatMap { UInt64($0) }
  }

  private func facts(
    of record: DeviceRecord, _ tree: PCITree, _ modules: KernelModules, _ units: [IOMMUUnit]
  ) -> DeviceFacts {
    var device = DeviceFacts(record)
    device.node = record.node.flatMap { NodeFacts($0) }
    device.groupNode = record.groupNode.flatMap { NodeFacts($0) }
    guard let address = record.address(in: tree), let function = tree[address] else { return device }
    device.function = function
    device.companions = tree.functions.filter {
      $0.group != nil && $0.group == record.group && $0.address != address
    }
    device.variantDrivers = Attribute.text("\(record.sysfs)/modalias").map { modules.variantDrivers(for: $0) } ?? []
    let unit = Attribute.linkedName("\(record.sysfs)/iommu")
    // A function below another may not name it. Where there is one IOMMU only there is no doubt.
    device.unit = units.first { $0.name == unit } ?? (units.count == 1 ? units.first : nil)
    device.assumptions = tree.assumptions(of: [address])
    device.place = VirtualFunctionPlace(address, root: root)
    let card = "\(root.sys)/bus/pci/devices/\(device.card)"
    device.offeredFunctions = Attribute.text("\(card)/sriov_totalvfs").flatMap { Int($0) }
    if device.place != nil { device.siblings = Files.names(in: card).count { $0.hasPrefix("virtfn") } }
    if device.isConnectX, let physical = try? PhysicalFunction(named: device.card, root: root) {
      device.preparation = try? PreparationFile.find(physical, in: PreparationFile.folder(root: root), root: root)
    }
    askNetwork(&device)
    return device
  }

  /// What sysfs tells of the ports of a function's RDMA devices.
  private func linkLayers(of address: String) -> [String] {
    let folder = "\(root.sys)/bus/pci/devices/\(address)/infiniband"
    return Files.names(in: folder).flatMap { device in
      Files.names(in: "\(folder)/\(device)/ports").compactMap {
        Attribute.text("\(folder)/\(device)/ports/\($0)/link_layer")?.lowercased()
      }
    }
  }

  /// What a NIC and its driver say of a function.
  private func askNetwork(_ device: inout DeviceFacts) {
    guard device.isNIC else { return }
    let scanner = TagScanner(root: root, network: network, asksVerbs: root.prefix.isEmpty, readsRules: false)
    let tag = scanner.tag(of: device.record)
    device.firmware = tag[.firmware]
    device.switchMode = tag[.eswitchMode]
    device.linkLayers = linkLayers(of: device.card)
    guard let place = device.place else { return }
    guard let network else {
      device.migratability = .unknown("only the running kernel tells")
      device.limiter = .unknown("only the running kernel tells")
      return
    }
    do throws(NetlinkError) {
      let isMigratable = try network.isMigratable(
        function: UInt16(place.number), bus: "pci", device: place.physicalFunction)
      device.migratability = .known(isMigratable)
    } catch {
      device.migratability = .unknown(
        error.errno == ErrorNumber(rawValue: ENODATA)
          ? "the driver of \(place.physicalFunction) does not say" : "asking devlink for the function: \(error)")
    }
    do throws(RateLimiterError) {
      let choice = try LimiterChoice(
        device.address, hardwareAddress: nil, root: root, folder: ThrottleFolder(root: root), network: network)
      device.limiter = .known(DeviceFacts.Limiter(kind: choice.limiter.kind, shortcomings: choice.shortcomings))
    } catch {
      device.limiter = .known(DeviceFacts.Limiter(kind: nil, shortcomings: ["\(error)"]))
    }
  }
}
