// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// Reads the PCI tree of a system. Nothing is bound, and no register of a device's is written.
///
/// The tree's shape and most facts are sysfs's; capabilities and names are libpci's. RDMA devices, where they are wanted,
/// are asked through libibverbs, which opens their uverbs nodes. A function that is unplugged meanwhile is left out, or its
/// capabilities are.
public struct PCIScanner: Sendable {
  /// Where the system's folders are.
  public let root: SystemRoot

  /// The scanner of that system; by default of this one.
  public init(root: SystemRoot = SystemRoot()) { self.root = root }

  /// Loads libpci, where there is one, for as long as this process runs: for a process that will not be allowed to.
  public static func keepLibrary() { PCILibrary.keep() }

  /// Every function there is now, and the RDMA devices on them. Without root capabilities are nil.
  /// - Parameters:
  ///   - titles: whether to look functions up in the list of PCI ids, which is most of the time that this takes.
  ///   - rdma: whether to look for RDMA devices, and on the real system to ask them through libibverbs.
  public func tree(titles isTitled: Bool = true, rdma hasRDMA: Bool = true) -> PCITree {
    let library = PCILibrary(root: root)
    var titles: [String: String?] = [:]
    var found: [Found] = []
    for name in Files.names(in: "\(root.sys)/bus/pci/devices") {
      guard let address = PCIAddress(name), var seen = look(at: name, address) else { continue }
      if seen.hasConfiguration, let registers = library?.registers(of: address) {
        seen.isRead = true
        seen.portType = registers.portType
        seen.function.capabilities = registers.capabilities
      }
      let identity = seen.function.identity
      if isTitled, titles[identity] == nil {
        let numbers = identity.split(separator: ":").compactMap { UInt16($0, radix: 16) }
        titles.updateValue(
          numbers.count == 2
            ? library?.name(vendor: numbers[0], device: numbers[1]).map(Attribute.harmless) : nil, forKey: identity)
      }
      seen.function.title = titles[identity] ?? nil
      found.append(seen)
    }
    found.sort { $0.place < $1.place }
    PCIKinds.assign(&found)
    Self.giveVirtualFunctionsTheirControls(&found)
    let functions = found.map(\.function)
    let groups = Set(functions.compactMap(\.group))
    let groupsWithoutIOMMU = groups.filter {
      Attribute.text("\(root.sys)/kernel/iommu_groups/\($0)/name") == "vfio-noiommu"
    }
    var tree = PCITree(
      functions: functions,
      hasIOMMU: !Files.names(in: "\(root.sys)/class/iommu").isEmpty || groups.count > groupsWithoutIOMMU.count,
      groupsWithoutIOMMU: groupsWithoutIOMMU)
    if hasRDMA { tree.rdmaDevices = RDMAScanner(root: root).devices(on: tree) }
    return tree
  }

  /// A function with what only the scan needs to know of it.
  struct Found {
    var function: PCIFunction
    /// Its address in parts.
    let place: PCIAddress
    /// Whether its configuration space is a file as any other. libpci opens what it finds.
    let hasConfiguration: Bool
    /// Whether sysfs tells of a link, as it does for what has a PCI Express capability, also without root.
    var hasLinkFiles: Bool
    /// Whether its first capability list could be read.
    var isRead = false
    var portType: UInt16?

    var isBridge: Bool { function.classCode >> 8 == 0x0604 || function.classCode >> 8 == 0x0609 }
    /// Whether it has a PCI Express capability.
    var isExpress: Bool { isRead ? portType != nil : hasLinkFiles }
  }

  private func look(at address: String, _ parts: PCIAddress) -> Found? {
    // What is missing here is missing because the function went.
    guard let folder = Files.resolved("\(root.sys)/bus/pci/devices/\(address)"),
      let vendor = hexadecimal("\(folder)/vendor"), let device = hexadecimal("\(folder)/device"),
      let classCode = hexadecimal("\(folder)/class"), let resources = Attribute.lines("\(folder)/resource")
    else { return nil }
    let place = Self.place(of: folder)
    let speed = Attribute.text("\(folder)/current_link_speed")
    var function = PCIFunction(
      address: address, parent: place.parent, hostBridge: place.hostBridge, kind: .conventional,
      identity: Self.digits(vendor) + ":" + Self.digits(device),
      classCode: UInt32(truncatingIfNeeded: classCode), bars: Self.bars(resources))
    function.driver = Attribute.linkedName("\(folder)/driver")
    function.group = Files.link("\(folder)/iommu_group").flatMap { Int(Files.lastComponent($0)) }
    function.numaNode = Attribute.text("\(folder)/numa_node").flatMap { Int($0) }.flatMap { $0 < 0 ? nil : $0 }
    function.physicalFunction = Files.link("\(folder)/physfn").map(Files.lastComponent)
      .flatMap { PCIAddress($0) == nil ? nil : $0 }
    // "Unknown" and no lanes is what the kernel says of functions without a link, virtual ones too.
    if let speed, let width = Attribute.text("\(folder)/current_link_width").flatMap({ Int($0) }),
      width > 0, !speed.hasPrefix("Unknown")
    {
      function.link = PCIFunction.LinkStatus(speed: speed, width: width)
    }
    return Found(
      function: function, place: parts, hasConfiguration: (try? Files.isRegularFile("\(folder)/config")) == true,
      hasLinkFiles: speed != nil)
  }

  /// Where a function hangs, from its folder: `…/pci0000:10/0000:10:01.0/0000:11:00.0`. A host bridge may itself be
  /// below a function (as Intel's VMD is): the last one counts.
  static func place(of folder: String) -> (hostBridge: String, parent: String?) {
    // By bytes, here and below, since there may be many functions.
    let names = folder.utf8.split(separator: UInt8(ascii: "/")).dropLast().map { Substring($0) }
    guard
      let host = names.lastIndex(where: { name in
        name.hasPrefix("pci") && PCIAddress(name.dropFirst(3) + ":00.0") != nil
      })
    else { return ("", nil) }
    let parent = names[(host + 1)...].last { PCIAddress($0) != nil }
    return (String(names[host]), parent.map(String.init))
  }

  /// The base address registers in a `resource` file: its first six lines, each with first and last byte, and flags.
  static func bars(_ resources: String) -> [PCIFunction.BAR] {
    var bars: [PCIFunction.BAR] = []
    let lines = resources.utf8.split(separator: UInt8(ascii: "\n"), maxSplits: 6, omittingEmptySubsequences: false)
    for (index, line) in lines.prefix(6).enumerated() {
      let numbers = line.split(separator: UInt8(ascii: " ")).compactMap { number(Substring($0)) }
      guard numbers.count == 3, numbers[1] > numbers[0], numbers[1] - numbers[0] < .max else { continue }
      // IORESOURCE_IO, IORESOURCE_MEM and IORESOURCE_PREFETCH.
      let (isIO, isMemory, isPrefetchable) = (
        numbers[2] & 0x100 != 0, numbers[2] & 0x200 != 0, numbers[2] & 0x2000 != 0
      )
      guard isIO || isMemory else { continue }
      bars.append(
        PCIFunction.BAR(
          index: index, start: numbers[0], size: numbers[1] - numbers[0] + 1, isIO: isIO, isPrefetchable: isPrefetchable
        ))
    }
    return bars
  }

  /// The control registers of a virtual function are reserved: what its physical function's say counts for it, and
  /// where those are unknown, so are its own.
  private static func giveVirtualFunctionsTheirControls(_ found: inout [Found]) {
    let capabilities = Dictionary(
      found.map { ($0.function.address, $0.function.capabilities) }, uniquingKeysWith: { first, _ in first })
    for index in found.indices {
      guard let physical = found[index].function.physicalFunction, let theirs = capabilities[physical] else { continue }
      guard let theirs else {
        found[index].function.capabilities = nil
        continue
      }
      found[index].function.capabilities?.relaxedOrdering = theirs.relaxedOrdering
      found[index].function.capabilities?.idOrderedRequests = theirs.idOrderedRequests
      found[index].function.capabilities?.idOrderedCompletions = theirs.idOrderedCompletions
    }
  }

  private func hexadecimal(_ path: String) -> UInt64? { Attribute.text(path).flatMap { Self.number($0) } }

  private static func number(_ text: some StringProtocol) -> UInt64? {
    text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : nil
  }

  private static func digits(_ value: UInt64) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, 4 - text.count)) + text
  }
}
