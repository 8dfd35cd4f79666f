// SPDX-License-Identifier: Apache-2.0
internal import CPCI

/// libpci: reads capabilities, and knows names. It is loaded when one of these is made. Not to be used by two threads.
///
/// It is asked only for what can't end the process; see `Sources/CPCI/pci.c`.
@safe struct PCILibrary: ~Copyable {
  private let handle: OpaquePointer

  /// libpci, looking at that system; nil where this machine has none.
  init?(root: SystemRoot) {
    guard let handle = unsafe vf_pci_open("\(root.sys)/bus/pci") else { return nil }
    unsafe self.handle = unsafe handle
  }

  deinit { unsafe vf_pci_close(handle) }

  /// Loads it for as long as this process runs.
  static func keep() { vf_pci_keep() }

  /// What a function's registers say.
  struct Registers {
    /// Its PCI Express port type, by the number in the PCI Express capabilities register; nil where it has no such
    /// capability.
    var portType: UInt16?
    /// nil where the lists could not be read to their ends.
    var capabilities: PCIFunction.Capabilities?
  }

  /// Reads a function's registers; nil where not even the first list could be read, as without root.
  func registers(of address: PCIAddress) -> Registers? {
    var found = vf_pci_registers()
    guard
      unsafe vf_pci_read(
        handle, Int32(address.segment), Int32(address.bus), Int32(address.device), Int32(address.function), &found),
      found.list_read
    else { return nil }
    var registers = Registers(portType: found.has_express ? found.express_flags >> 4 & 0xf : nil)
    if found.extended_list_read {
      var capabilities = PCIFunction.Capabilities()
      if found.has_acs {
        let controls = PCIFunction.AccessControl(rawValue: found.acs_capability & 0x7f)
        capabilities.accessControl = controls
        capabilities.accessControlEnabled = controls.intersection(.init(rawValue: found.acs_control))
      }
      // Bit 15 of the ATS control register; the corresponding C constant is PCI_ATS_CTRL_ENABLE.
      if found.has_ats { capabilities.addressTranslation = found.ats_control & 0x8000 != 0 }
      // PCI_EXP_DEVCTL_RELAX_EN, PCI_EXP_DEVCTL2_IDO_REQ_EN and PCI_EXP_DEVCTL2_IDO_CMP_EN.
      capabilities.relaxedOrdering = found.device_control & 0x0010 != 0
      capabilities.idOrderedRequests = found.device_control_2 & 0x0100 != 0
      capabilities.idOrderedCompletions = found.device_control_2 & 0x0200 != 0
      registers.capabilities = capabilities
    }
    return registers
  }

  /// Vendor and device in words; nil where the list of names is absent or lacks them.
  func name(vendor: UInt16, device: UInt16) -> String? {
    var bytes = [CChar](repeating: 0, count: 256)
    let isThere = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
      unsafe vf_pci_name(handle, vendor, device, buffer.baseAddress, Int32(buffer.count))
    }
    guard isThere else { return nil }
    return String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
