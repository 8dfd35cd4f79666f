// SPDX-License-Identifier: GPL-2.0
/* The VFIO device as a VMM sees it: regions, configuration space, interrupt, reset. */
#include <linux/eventfd.h>
#include <linux/pci_regs.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "synthetic.h"

#define VSYN_OFFSET_SHIFT	40
#define VSYN_OFFSET_MASK	(BIT_ULL(VSYN_OFFSET_SHIFT) - 1)
#define VSYN_BAR_BYTES		SZ_64K
#define VSYN_MSI_CAPABILITY	0x40

/* BAR 0. docs/synthetic-devices.md is its data sheet. */
#define VSYN_BAR_MAGIC		0x00
#define VSYN_BAR_CONTROL	0x08
#define VSYN_BAR_SCRATCH	0x10
#define VSYN_BAR_DMA_POSITION	0x50
#define VSYN_BAR_STATE_POSITION	0x58
#define VSYN_BAR_DOORBELL	0x60
#define VSYN_BAR_RECEIVED	0x1000
#define VSYN_BAR_SENT		0x1200
#define VSYN_MAGIC		0x4e595356	/* "VSYN" */
#define VSYN_LAYOUT		1

void vsyn_device_interrupt(struct vsyn_device *vsyn)
{
	lockdep_assert_held(&vsyn->rx_lock);
	if (vsyn->interrupt)
		eventfd_signal(vsyn->interrupt);
}

/* Registers as 64-bit words, of which an access takes its part. */
static u64 vsyn_bar_word(struct vsyn_device *vsyn, unsigned int offset)
{
	u64 word = 0;

	lockdep_assert_held(&vsyn->rx_lock);
	switch (offset) {
	case VSYN_BAR_MAGIC:
		return (u64)VSYN_LAYOUT << 32 | VSYN_MAGIC;
	case VSYN_BAR_CONTROL:
		return vsyn->settings->id << 32 | vsyn->control;
	case VSYN_BAR_SCRATCH ... VSYN_BAR_SCRATCH + VSYN_SCRATCH_BYTES - 1:
		memcpy(&word, vsyn->scratch + offset - VSYN_BAR_SCRATCH, sizeof(word));
		return le64_to_cpu((__force __le64)word);
	case VSYN_BAR_DMA_POSITION:
		return READ_ONCE(vsyn->dma_position);
	case VSYN_BAR_STATE_POSITION:
		return READ_ONCE(vsyn->content.position);
	case VSYN_BAR_RECEIVED ... VSYN_BAR_RECEIVED + 8 * VSYN_IDS - 1:
		return vsyn->links[(offset - VSYN_BAR_RECEIVED) / 8].received;
	case VSYN_BAR_SENT ... VSYN_BAR_SENT + 8 * VSYN_IDS - 1:
		return READ_ONCE(vsyn->sent[(offset - VSYN_BAR_SENT) / 8]);
	default:
		return 0;
	}
}

static void vsyn_bar_read(struct vsyn_device *vsyn, unsigned int offset, u8 *bytes, size_t size)
{
	__le64 word;

	spin_lock(&vsyn->rx_lock);
	word = cpu_to_le64(vsyn_bar_word(vsyn, ALIGN_DOWN(offset, 8)));
	spin_unlock(&vsyn->rx_lock);
	memcpy(bytes, (u8 *)&word + offset % 8, size);
}

static void vsyn_bar_write(struct vsyn_device *vsyn, unsigned int offset, const u8 *bytes,
			   size_t size)
{
	__le32 control;

	spin_lock(&vsyn->rx_lock);
	switch (offset) {
	case VSYN_BAR_CONTROL:
		control = cpu_to_le32(vsyn->control);
		memcpy(&control, bytes, min(size, sizeof(control)));
		WRITE_ONCE(vsyn->control, le32_to_cpu(control) & VSYN_ACTIVE_ALL);
		break;
	case VSYN_BAR_SCRATCH ... VSYN_BAR_SCRATCH + VSYN_SCRATCH_BYTES - 1:
		memcpy(vsyn->scratch + offset - VSYN_BAR_SCRATCH, bytes, size);
		break;
	case VSYN_BAR_DOORBELL:
		if (vsyn->control & VSYN_ACTIVE_INTERRUPTS)
			vsyn_device_interrupt(vsyn);
		break;
	default:
		break;
	}
	spin_unlock(&vsyn->rx_lock);
	vsyn_traffic_kick(vsyn);
}

/* Which bits of the configuration space a guest may change. */
static u8 vsyn_config_writable(unsigned int offset)
{
	switch (offset) {
	case PCI_COMMAND:
		return PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	case PCI_COMMAND + 1:
		return PCI_COMMAND_INTX_DISABLE >> 8;
	case PCI_CACHE_LINE_SIZE:
	case PCI_INTERRUPT_LINE:
		return 0xff;
	case PCI_BASE_ADDRESS_0 + 2:	/* the bits above 64 KiB */
	case PCI_BASE_ADDRESS_0 + 3:
		return 0xff;
	case VSYN_MSI_CAPABILITY + PCI_MSI_FLAGS:
		return PCI_MSI_FLAGS_ENABLE;
	case VSYN_MSI_CAPABILITY + PCI_MSI_ADDRESS_LO:
		return 0xfc;
	case VSYN_MSI_CAPABILITY + PCI_MSI_ADDRESS_LO + 1 ... VSYN_MSI_CAPABILITY + PCI_MSI_DATA_64 + 1:
		return 0xff;
	default:
		return 0;
	}
}

static void vsyn_config_write(struct vsyn_device *vsyn, unsigned int offset, const u8 *bytes,
			      size_t size)
{
	mutex_lock(&vsyn->config_mutex);
	for (; size; size--, offset++, bytes++) {
		u8 writable = vsyn_config_writable(offset);

		vsyn->config[offset] = (vsyn->config[offset] & ~writable) | (*bytes & writable);
	}
	mutex_unlock(&vsyn->config_mutex);
}

static void vsyn_config_read(struct vsyn_device *vsyn, unsigned int offset, u8 *bytes, size_t size)
{
	mutex_lock(&vsyn->config_mutex);
	memcpy(bytes, vsyn->config + offset, size);
	mutex_unlock(&vsyn->config_mutex);
}

static void vsyn_put16(u8 *config, unsigned int offset, u16 value)
{
	config[offset] = value;
	config[offset + 1] = value >> 8;
}

static void vsyn_config_reset(struct vsyn_device *vsyn)
{
	struct vsyn_settings *settings = vsyn->settings;
	u8 *config = vsyn->config;

	mutex_lock(&vsyn->config_mutex);
	memset(config, 0, sizeof(vsyn->config));
	vsyn_put16(config, PCI_VENDOR_ID, settings->pci_id >> 16);
	vsyn_put16(config, PCI_DEVICE_ID, settings->pci_id);
	vsyn_put16(config, PCI_STATUS, PCI_STATUS_CAP_LIST);
	config[PCI_CLASS_PROG] = settings->pci_class;
	vsyn_put16(config, PCI_CLASS_DEVICE, settings->pci_class >> 8);
	vsyn_put16(config, PCI_SUBSYSTEM_VENDOR_ID, settings->pci_id >> 16);
	vsyn_put16(config, PCI_SUBSYSTEM_ID, settings->pci_id);
	config[PCI_CAPABILITY_LIST] = VSYN_MSI_CAPABILITY;
	config[VSYN_MSI_CAPABILITY] = PCI_CAP_ID_MSI;
	vsyn_put16(config, VSYN_MSI_CAPABILITY + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT);
	mutex_unlock(&vsyn->config_mutex);
}

/* The part of a reset that is about registers. */
void vsyn_device_reset_registers(struct vsyn_device *vsyn)
{
	spin_lock(&vsyn->rx_lock);
	WRITE_ONCE(vsyn->control, vsyn_get(vsyn->settings, after_reset));
	memset(vsyn->scratch, 0, sizeof(vsyn->scratch));
	memset(vsyn->links, 0, sizeof(vsyn->links));
	spin_unlock(&vsyn->rx_lock);
	vsyn_config_reset(vsyn);
}

/* A region is touched: legal at any time, but nobody should while the device is quiesced. */
static void vsyn_count_access(struct vsyn_device *vsyn, enum vsyn_counter counter)
{
	enum vfio_device_mig_state state = READ_ONCE(vsyn->state);

	if (state != VFIO_DEVICE_STATE_ERROR && !vsyn_state_initiates(state))
		vsyn_count(vsyn, counter);
}

static ssize_t vsyn_access(struct vsyn_device *vsyn, char __user *buffer, size_t count, loff_t *pos,
			   bool write)
{
	unsigned int index = *pos >> VSYN_OFFSET_SHIFT;
	u64 offset = *pos & VSYN_OFFSET_MASK;
	bool config = index == VFIO_PCI_CONFIG_REGION_INDEX;
	u64 size = config ? sizeof(vsyn->config) : VSYN_BAR_BYTES;
	size_t done = 0;

	if (!config && index != VFIO_PCI_BAR0_REGION_INDEX)
		return -EINVAL;
	if (offset >= size)
		return count ? -EINVAL : 0;
	count = min_t(u64, count, size - offset);
	vsyn_count_access(vsyn, config ? VSYN_CONFIG_QUIESCED : VSYN_BAR_QUIESCED);
	while (done < count) {
		u8 bytes[8];
		size_t part = 8;

		/* As wide as alignment and what is left allow. */
		while (part > count - done || (offset + done) % part)
			part /= 2;
		if (write && copy_from_user(bytes, buffer + done, part))
			return -EFAULT;
		if (config && write)
			vsyn_config_write(vsyn, offset + done, bytes, part);
		else if (config)
			vsyn_config_read(vsyn, offset + done, bytes, part);
		else if (write)
			vsyn_bar_write(vsyn, offset + done, bytes, part);
		else
			vsyn_bar_read(vsyn, offset + done, bytes, part);
		if (!write && copy_to_user(buffer + done, bytes, part))
			return -EFAULT;
		done += part;
	}
	*pos += done;
	return done;
}

static ssize_t vsyn_read(struct vfio_device *vdev, char __user *buffer, size_t count, loff_t *pos)
{
	return vsyn_access(to_vsyn(vdev), buffer, count, pos, false);
}

static ssize_t vsyn_write(struct vfio_device *vdev, const char __user *buffer, size_t count,
			  loff_t *pos)
{
	return vsyn_access(to_vsyn(vdev), (char __user *)buffer, count, pos, true);
}

static long vsyn_get_info(void __user *argument)
{
	size_t minsz = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info;

	if (copy_from_user(&info, argument, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.argsz = sizeof(info);
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(argument, &info, minsz) ? -EFAULT : 0;
}

static int vsyn_fill_region_info(struct vfio_region_info *info)
{
	if (info->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info->offset = (u64)info->index << VSYN_OFFSET_SHIFT;
	info->size = 0;
	info->flags = 0;
	if (info->index == VFIO_PCI_BAR0_REGION_INDEX)
		info->size = VSYN_BAR_BYTES;
	else if (info->index == VFIO_PCI_CONFIG_REGION_INDEX)
		info->size = sizeof_field(struct vsyn_device, config);
	if (info->size)
		info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	return 0;
}

#ifdef VSYN_HAS_GET_REGION_INFO
static int vsyn_get_region_info(struct vfio_device *vdev, struct vfio_region_info *info,
				struct vfio_info_cap *caps)
{
	return vsyn_fill_region_info(info);
}
#else
static long vsyn_get_region(void __user *argument)
{
	size_t minsz = offsetofend(struct vfio_region_info, offset);
	struct vfio_region_info info;

	if (copy_from_user(&info, argument, minsz))
		return -EFAULT;
	if (info.argsz < minsz || vsyn_fill_region_info(&info))
		return -EINVAL;
	info.argsz = sizeof(info);
	info.cap_offset = 0;
	return copy_to_user(argument, &info, minsz) ? -EFAULT : 0;
}
#endif

static long vsyn_get_irq(void __user *argument)
{
	size_t minsz = offsetofend(struct vfio_irq_info, count);
	struct vfio_irq_info info;

	if (copy_from_user(&info, argument, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.argsz = sizeof(info);
	info.count = info.index == VFIO_PCI_MSI_IRQ_INDEX;
	info.flags = info.count ? VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE : 0;
	return copy_to_user(argument, &info, minsz) ? -EFAULT : 0;
}

/* Takes a reference to the new one, and lets go of the old one. */
static void vsyn_set_interrupt(struct vsyn_device *vsyn, struct eventfd_ctx *interrupt)
{
	struct eventfd_ctx *old;

	spin_lock(&vsyn->rx_lock);
	old = vsyn->interrupt;
	vsyn->interrupt = interrupt;
	spin_unlock(&vsyn->rx_lock);
	if (old)
		eventfd_ctx_put(old);
}

static long vsyn_trigger(struct vsyn_device *vsyn, struct vfio_irq_set *set, const u8 *data)
{
	struct eventfd_ctx *interrupt = NULL;
	bool fire = set->count;
	s32 fd;

	switch (set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK) {
	case VFIO_IRQ_SET_DATA_NONE:
		/* No vector at all switches the interrupt off. */
		if (!set->count) {
			vsyn_set_interrupt(vsyn, NULL);
			return 0;
		}
		break;
	case VFIO_IRQ_SET_DATA_BOOL:
		fire = fire && *data;
		break;
	case VFIO_IRQ_SET_DATA_EVENTFD:
		if (!set->count)
			return 0;
		memcpy(&fd, data, sizeof(fd));
		if (fd >= 0) {
			interrupt = eventfd_ctx_fdget(fd);
			if (IS_ERR(interrupt))
				return PTR_ERR(interrupt);
		}
		vsyn_set_interrupt(vsyn, interrupt);
		return 0;
	}
	spin_lock(&vsyn->rx_lock);
	if (fire)
		vsyn_device_interrupt(vsyn);
	spin_unlock(&vsyn->rx_lock);
	return 0;
}

static long vsyn_set_irqs(struct vsyn_device *vsyn, void __user *argument)
{
	size_t minsz = offsetofend(struct vfio_irq_set, count), size;
	struct vfio_irq_set set;
	u8 *data = NULL;
	long ret;

	if (copy_from_user(&set, argument, minsz))
		return -EFAULT;
	/* Its other indexes have no vector, which is what NONE with a count of 0 says of them. */
	if (set.index != VFIO_PCI_MSI_IRQ_INDEX)
		return set.index < VFIO_PCI_NUM_IRQS && !set.count &&
		       (set.flags & VFIO_IRQ_SET_DATA_NONE) ? 0 : -EINVAL;
	ret = vfio_set_irqs_validate_and_prepare(&set, 1, VFIO_PCI_NUM_IRQS, &size);
	if (ret)
		return ret;
	if ((set.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) != VFIO_IRQ_SET_ACTION_TRIGGER)
		return -EINVAL;
	if (size) {
		data = memdup_user(argument + minsz, size);
		if (IS_ERR(data))
			return PTR_ERR(data);
	}
	ret = vsyn_trigger(vsyn, &set, data);
	kfree(data);
	return ret;
}

static long vsyn_ioctl(struct vfio_device *vdev, unsigned int command, unsigned long argument)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);
	void __user *pointer = (void __user *)argument;

	switch (command) {
	case VFIO_DEVICE_GET_INFO:
		return vsyn_get_info(pointer);
#ifndef VSYN_HAS_GET_REGION_INFO
	case VFIO_DEVICE_GET_REGION_INFO:
		return vsyn_get_region(pointer);
#endif
	case VFIO_DEVICE_GET_IRQ_INFO:
		return vsyn_get_irq(pointer);
	case VFIO_DEVICE_SET_IRQS:
		return vsyn_set_irqs(vsyn, pointer);
	case VFIO_DEVICE_RESET:
		vsyn_reset(vsyn);
		return 0;
	default:
		return -ENOTTY;
	}
}

/* Life. */

static int vsyn_device_init(struct vfio_device *vdev)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);

	mutex_init(&vsyn->state_mutex);
	spin_lock_init(&vsyn->reset_lock);
	init_waitqueue_head(&vsyn->hang_wait);
	mutex_init(&vsyn->flow_mutex);
	init_waitqueue_head(&vsyn->flow_wait);
	spin_lock_init(&vsyn->rx_lock);
	mutex_init(&vsyn->config_mutex);
	mutex_init(&vsyn->domain_lock);
	vsyn_log_init(&vsyn->log);
	return 0;
}

static void vsyn_device_release(struct vfio_device *vdev)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);

	vsyn_content_free(&vsyn->content);
	vsyn_traffic_free(vsyn);
	if (vsyn->function)
		put_device(&vsyn->function->dev);
}

/* The first descriptor: with vfio-pci this resets the function. */
static int vsyn_open(struct vfio_device *vdev)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);

	if (vsyn_get(vsyn->settings, bind_resets))
		vsyn_reset(vsyn);
	return vsyn_traffic_start(vsyn);
}

/* The last descriptor. Data descriptors may be around still, and end here. */
static void vsyn_close(struct vfio_device *vdev)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);

	vsyn_traffic_stop(vsyn);
	vsyn_log_end(vsyn);
	vsyn_set_interrupt(vsyn, NULL);
	mutex_lock(&vsyn->state_mutex);
	vsyn_end_sessions(vsyn);
	vsyn_state_unlock(vsyn);
	if (vsyn_get(vsyn->settings, close_resets))
		vsyn_reset(vsyn);
}

/* The core wants it of who reaches memory. Nothing stays pinned here between two writes. */
static void vsyn_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
}

#ifdef VSYN_HAS_GET_REGION_INFO
#define VSYN_REGION_OPS .get_region_info_caps = vsyn_get_region_info,
#else
#define VSYN_REGION_OPS
#endif

#define VSYN_COMMON_OPS						\
	.init = vsyn_device_init,				\
	.release = vsyn_device_release,				\
	.open_device = vsyn_open,				\
	.close_device = vsyn_close,				\
	.read = vsyn_read,					\
	.write = vsyn_write,					\
	VSYN_REGION_OPS						\
	.ioctl = vsyn_ioctl

const struct vfio_device_ops vsyn_emulated_ops = {
	.name = VSYN_NAME,
	VSYN_COMMON_OPS,
	.dma_unmap = vsyn_dma_unmap,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

const struct vfio_device_ops vsyn_own_ops = {
	.name = VSYN_NAME,
	VSYN_COMMON_OPS,
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
};
