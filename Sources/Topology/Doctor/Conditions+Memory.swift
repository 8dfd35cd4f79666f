// SPDX-License-Identifier: Apache-2.0

extension Condition {
  /// Whether a guest and its devices' images fit.
  static let memory: [Condition] = [
    Condition(
      host: "locked-memory", why: "guest memory that devices write to is pinned, and counts as locked",
      needs: [.guestMemory]
    ) { host in
      guard let wanted = host.expectations.guestMemory else { return nil }
      let process = host.process
      if process.has(.lockMemory) { return .ok("\(process.name) has CAP_IPC_LOCK: no limit counts") }
      switch process.lockedMemory {
      case .none: return .ok("the limit of \(process.name) is \"unlimited\"")
      case .unknown: return .unknown("procfs does not say what \(process.name) may lock", "run this as root")
      case .bytes(let limit):
        let evidence = "\(process.name) may lock \(amount(limit)); the guest has \(amount(wanted))"
        guard limit < wanted else { return .ok(evidence) }
        return .missing(
          evidence,
          "LimitMEMLOCK=infinity in its unit, <memtune><hard_limit> in libvirt, or in a shell: ulimit -l unlimited")
      }
    },
    Condition(
      host: "memory-limit",
      why: "guest memory, and what the kernel buffers of a device's image, is charged to the control group",
      needs: [.guestMemory]
    ) { host in
      guard let guest = host.expectations.guestMemory else { return nil }
      let image = host.expectations.imageSize ?? 0
      let (sum, overflow) = guest.addingReportingOverflow(image)
      let wanted = overflow ? .max : sum
      switch host.process.memory {
      case .none: return .ok("no group of \(host.process.name) has a limit (\(host.process.memoryPath))")
      case .unknown:
        return .unknown("\(host.process.memoryPath) can't be read", "run this in the host's own namespace")
      case .bytes(let limit):
        let evidence =
          "\(host.process.memoryPath) allows \(amount(limit)); the guest has \(amount(guest))"
          + (image > 0 ? ", and the images are \(amount(image))" : "")
        guard limit < wanted else { return .ok(evidence) }
        return .missing(
          evidence, "systemctl set-property UNIT MemoryMax=\(wanted), and some more for the VMM itself")
      }
    },
    Condition(
      device: "huge-pages",
      why: "an IOMMU keeps one dirty bit for all of a huge page: whatever is written, the whole page is sent",
      restsOn: ["driver", "dirty-tracking"]
    ) { device, host in
      guard let function = device.function, function.driver != nil else { return nil }
      if device.hasLog == true { return .ok("the log of its driver does not go by the guest's pages") }
      let listed = host.hugePages.keys.sorted().map { "\(host.hugePages[$0] ?? 0) of \(amount($0))" }
      var evidence =
        "\(host.root.sys)/kernel/mm/hugepages: " + (listed.isEmpty ? "none" : listed.joined(separator: ", "))
      var reserved = host.hugePages.keys.max()
      if reserved != nil, host.process.hasHugePages == false {
        evidence += ", of which \(host.process.name) has none"
        reserved = nil
      }
      if let size = host.transparentHugePage { evidence += "; transparent ones of \(amount(size))" }
      let transparent = host.transparentHugePage ?? 0
      let largest = max(reserved ?? 0, transparent)
      // A page of memory may be larger than any of the IOMMU's: then it has several bits.
      let granularity = min(largest, device.unit?.largestPage ?? .max)
      if granularity < largest { evidence += "; \(device.unit?.name ?? "") has none above \(amount(granularity))" }
      guard granularity > usualHugePage else { return .ok(evidence) }
      return .warning(
        "\(evidence); only the IOMMU tracks what it writes, with a bit for \(amount(granularity))",
        reserved ?? 0 >= transparent
          ? "back guests that are to be moved by pages of 2 MiB: "
            + "echo N >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
          : "echo never >/sys/kernel/mm/transparent_hugepage/enabled, before the guest starts")
    },
  ]

  /// The huge page that nearly every guest has, reserved or transparent: with larger ones a bit stands for so much that
  /// pre-copy hardly helps.
  private static let usualHugePage: UInt64 = 2 << 20

  /// Bytes in the largest unit of which they are a whole number.
  static func amount(_ bytes: UInt64) -> String {
    var (number, unit) = (bytes, 0)
    while number > 0, number % 1024 == 0, unit < 4 {
      number /= 1024
      unit += 1
    }
    return "\(number) \(["bytes", "KiB", "MiB", "GiB", "TiB"][unit])"
  }
}
