// SPDX-License-Identifier: Apache-2.0
internal import Migration

extension Condition {
  /// What the devices of one virtual machine have to be to each other.
  static let group: [Condition] = [
    Condition(
      host: "quiescing", why: "devices that write to each other have to stop in an order in which nothing is lost",
      restsOn: ["driver"], needs: [.devices]
    ) { host in
      guard !host.devices.isEmpty else { return nil }
      var planned: [QuiescePlan.Device] = []
      for device in host.devices {
        guard let features = device.record.usualFeatures else {
          return .unknown(
            "nothing says which states \(device.name) has (its driver: \(device.record.driver ?? "none"))",
            "vfio-ferry topology --plan --pid PID, with the process that holds them")
        }
        planned.append(QuiescePlan.Device(name: device.name, features: features))
      }
      do throws(QuiesceRefusal) {
        let plan = try QuiescePlan(devices: planned, reachability: host.reachability)
        let names = plan.domains.map { $0.map { planned[$0].name }.joined(separator: " with ") }
        return .ok("as these drivers usually are, there is an order: \(names.joined(separator: "; "))")
      } catch {
        let options = error.links.map { "--no-link \($0.from),\($0.to)" }.joined(separator: " or ")
        return .missing("\(error)", "say \(options) if it never does")
      }
    },
    Condition(
      host: "dma-buf",
      why:
        "with an iommufd, a peer's BAR is mapped as a dma-buf or not at all: without, devices do not reach each other "
        + "through the root complex", restsOn: ["iommu", "iommufd"], needs: [.devices]
    ) { host in
      guard let pair = host.peersThroughRoot else { return nil }
      let who = "\(pair.from) reaches \(pair.to) through the root complex"
      let remedy = "boot Linux 7.0 or newer with CONFIG_VFIO_PCI_DMABUF, or use groups and a container (--group)"
      if let version = host.version, version < KernelVersion(7, 0) {
        return .warning("\(who), and this is Linux \(host.release ?? "")", remedy)
      }
      guard let configuration = host.configuration, host.version != nil else {
        return .unknown("\(who); whether this kernel has CONFIG_VFIO_PCI_DMABUF nobody says", remedy)
      }
      guard configuration["VFIO_PCI_DMABUF"] != .off else {
        return .warning("\(who), and \(configuration.path) has no CONFIG_VFIO_PCI_DMABUF", remedy)
      }
      return .ok("\(configuration.path) has CONFIG_VFIO_PCI_DMABUF, and this is Linux \(host.release ?? "")")
    },
  ]
}

extension HostFacts {
  /// The first pair of PCI functions of which one reaches the other by way of the IOMMU.
  fileprivate var peersThroughRoot: (from: String, to: String)? {
    for from in devices.indices where devices[from].function != nil {
      for to in devices.indices where devices[to].function != nil {
        if case .redirected = reachability[from, to].path { return (devices[from].name, devices[to].name) }
      }
    }
    return nil
  }
}
