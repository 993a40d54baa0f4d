"""The CPU backend: NumPy arrays, kernels compiled by Numba."""

from fastconv.cpu.activation import leaky_relu_backward as leaky_relu_backward
from fastconv.cpu.activation import leaky_relu_forward as leaky_relu_forward
from fastconv.cpu.activation import relu_backward as relu_backward
from fastconv.cpu.activation import relu_forward as relu_forward
from fastconv.cpu.bias import conv_backward_bias as conv_backward_bias
from fastconv.cpu.conv import conv_backward_input as conv_backward_input
from fastconv.cpu.conv import conv_forward as conv_forward
from fastconv.cpu.conv_weight import conv_backward_weight as conv_backward_weight
from fastconv.cpu.linear import linear_backward_bias as linear_backward_bias
from fastconv.cpu.linear import linear_backward_input as linear_backward_input
from fastconv.cpu.linear import linear_backward_weight as linear_backward_weight
from fastconv.cpu.linear import linear_forward as linear_forward
from fastconv.cpu.loss import cross_entropy_backward as cross_entropy_backward
from fastconv.cpu.loss import cross_entropy_forward as cross_entropy_forward
from fastconv.cpu.loss import log_softmax_backward as log_softmax_backward
from fastconv.cpu.loss import log_softmax_forward as log_softmax_forward
from fastconv.cpu.loss import softmax_backward as softmax_backward
from fastconv.cpu.loss import softmax_forward as softmax_forward
from fastconv.cpu.pool_global import global_avg_pool_backward as global_avg_pool_backward
from fastconv.cpu.pool_global import global_avg_pool_forward as global_avg_pool_forward
from fastconv.cpu.pool_global import global_max_pool_backward as global_max_pool_backward
from fastconv.cpu.pool_global import global_max_pool_forward as global_max_pool_forward
from fastconv.cpu.pool_max import max_pool_backward as max_pool_backward
from fastconv.cpu.pool_max import max_pool_forward as max_pool_forward
from fastconv.cpu.pool_sum import sum_pool_backward as sum_pool_backward
from fastconv.cpu.pool_sum import sum_pool_forward as sum_pool_forward
