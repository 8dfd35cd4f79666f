// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import VFIO

extension SessionSupport {
  /// Refuses a command that can't be run, before anything is done for it.
  static func checkCommand(_ command: [String]) throws(CommandFailure) {
    if let program = command.first, Files.program(program) == nil {
      throw .nothing("there is no program \(program) to hand the devices to")
    }
  }

  /// Gives the devices' descriptors to the command and becomes it. Returns only to throw; the devices are open then as
  /// before.
  static func handOver(_ opened: [OpenDevice], to command: [String]) throws(SystemError) {
    // Nothing names them any more once the command runs, and until then nothing may close them.
    defer { withExtendedLifetime(opened) {} }
    var numbers: [String] = []
    var support: [HandedOver] = []
    for device in opened {
      numbers.append("\(device.device.name)=\(try device.device.handOver())")
      if let handed = try device.device.support?.handOver(), !support.contains(handed) { support.append(handed) }
    }
    // What an earlier vfio-ferry left in the environment means nothing here.
    for variable in ["VFIO_FERRY_IOMMUFD", "VFIO_FERRY_GROUPS"] { Execution.setVariable(variable, nil) }
    Execution.setVariable("VFIO_FERRY_DEVICES", numbers.joined(separator: " "))
    // One iommufd serves all devices; groups are as many as there are.
    if let variable = support.first?.variable {
      Execution.setVariable(variable, support.map(\.value).joined(separator: " "))
    }
    try Execution.replace(with: command)
  }
}
